"""What the ledger keeps: one genesis, then one entry per committed round, each naming the hash of the one before.

Plain values and their canonical JSON; no storage. Digests are the hexadecimal strings of `common.digest`.
A loss may be NaN, and NaN differs from itself: compare entries by their `hash`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ostrakon.common.choice import Choice
from ostrakon.common.layout import Layout
from ostrakon.common.reasons import Missing

_EXACTLY = ConfigDict(extra="forbid")

R = TypeVar("R", "Genesis", "Entry")


@dataclass(frozen=True)
class Parent:
    """The run that another one began from, and where in it."""

    __pydantic_config__ = _EXACTLY

    run: str  # UUID
    round: int
    hash: str  # of the entry of this round; of the genesis where it is 0


@dataclass(frozen=True)
class Genesis:
    """What a run is: nothing in it changes while the run lives."""

    __pydantic_config__ = _EXACTLY

    run: str  # UUID
    settings: Mapping[str, Any]  # ServerSettings.identity()
    parameters: int  # d
    theta_0: str  # digest
    created: str  # ISO 8601
    layout: Layout  # names and shapes of the parameters, in flat order
    parent: Parent | None = None  # whose model is theta_0
    constants: str | None = None  # digest of what the model holds beside theta; None: nothing, or not recorded

    @cached_property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of the canonical JSON."""
        return _sha256(self.to_json())

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; no `parent` and no `constants` where there are none."""
        values = asdict(self)
        for name in ("parent", "constants"):
            if values[name] is None:
                del values[name]
        return _canonical(values)

    @staticmethod
    def from_json(text: str) -> "Genesis":
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is not such JSON.
        """
        return _read(_GENESIS, text, "a genesis")


@dataclass(frozen=True)
class CountedVote:
    """One vote that was counted, with the losses of both candidates, as the worker reports them."""

    __pydantic_config__ = _EXACTLY

    worker: str
    choice: Choice
    inner_loss: float
    outer_loss: float


@dataclass(frozen=True)
class Entry:
    """One committed round: how theta_{t-1} became theta_t."""

    __pydantic_config__ = _EXACTLY

    round: int  # t = 1, 2, ...
    term: int  # of the server that committed it
    base: str  # digest of theta_{t-1}
    inner: str | None  # digest of Inner; None: it was not finite and never proposed
    outer: str | None  # digest of Outer; None: likewise, or the rule has one phase; Inner's where both are identical
    winner: str  # digest of theta_t
    choice: Choice
    votes: tuple[CountedVote, ...]
    inner_cluster: tuple[str, ...]  # the tight cluster of workers that Inner was formed from
    outer_cluster: tuple[str, ...]  # the one that Outer was formed without
    missing: Mapping[str, str]  # worker -> reason
    refused: Mapping[str, Mapping[str, int]]  # worker -> reason -> how often
    thin: bool  # fewer than 2f+1 submissions
    seconds: float  # that the round took
    running_sum: str  # digest of theta_1 + ... + theta_t in float64
    previous: str  # hash of entry t-1, of the genesis where t = 1
    revoked: tuple[str, ...] = ()  # workers shut out; one that is not among the missing has no seat any more

    @cached_property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of the canonical JSON."""
        return _sha256(self.to_json())

    def seats(self, roster: Sequence[str]) -> tuple[str, ...]:
        """The members of a run that counted toward this round's quorums, in roster order."""
        return tuple(m for m in roster if m not in self.revoked or self.missing.get(m) == Missing.REVOKED)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; losses that are not finite as "nan", "inf", "-inf"."""
        values = asdict(self)
        values["seconds"] = _number(self.seconds)
        for vote in values["votes"]:
            vote["inner_loss"] = _number(vote["inner_loss"])
            vote["outer_loss"] = _number(vote["outer_loss"])
        if not self.revoked:  # entries written before there was this field keep their hashes
            del values["revoked"]
        return _canonical(values)

    @staticmethod
    def from_json(text: str) -> "Entry":
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is not such JSON.
        """
        return _read(_ENTRY, text, "an entry")


_GENESIS, _ENTRY = TypeAdapter(Genesis), TypeAdapter(Entry)


def _read(adapter: TypeAdapter[R], text: str, what: str) -> R:
    try:
        made = adapter.validate_json(text)
        if made.to_json() != text:  # pydantic takes a "1" for a 1; a hash does not
            raise ValueError(f"not {what} as this program writes it")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        raise ValueError(f"not {what} ({where!r}: {first['msg']})") from None
    return made


def _number(value: float) -> float | str:
    # JSON has no name for NaN and infinity; pydantic, where it is not strict, reads these strings back.
    return float(value) if math.isfinite(value) else str(float(value))


def _canonical(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
