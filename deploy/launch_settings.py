"""What a user asks for: KEY=VALUE words, a file of settings, and what of them a run that exists accepts."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from ostrakon.common.errors import OstrakonError
from ostrakon.common.names import Expression, read_call
from ostrakon.common.settings import build
from ostrakon.common.toml_file import read_toml
from ostrakon.common.words import read_words, whole_path
from ostrakon.deploy.settings import Liars, RunSettings

MAY_DIFFER = ("port", "device", "until")  # on a resume; rounds may grow
DEFAULT_RUN = "default"
FILE = "settings"  # the word that names a file of settings
_WORDS = (*(name for name in RunSettings.model_fields if name != "team"), FILE)
_PATHS: dict[str, Callable[[Path], str]] = {"data": lambda path: path.name, FILE: lambda path: path.stem}
_LONGEST_NAME = 120  # characters of a run's name that is made of what was given
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.]+")


@dataclass(frozen=True)
class Asked:
    """What a user asks for."""

    words: dict[str, str]
    """KEY=VALUE words, by the name of the setting."""

    @cached_property
    def filed(self) -> dict[str, Any]:
        """The values in the file of settings, if one is given; relative paths in it are taken from its folder.

        Raises:
            OstrakonError: the file cannot be read, or a value in it cannot be used.
        """
        if FILE not in self.words:
            return {}
        path = whole_path(self.words[FILE])
        values = read_toml(path)
        build(RunSettings, values, source=str(path))  # what cannot be used is to be found under the file's name
        if "data" in values:
            values["data"] = whole_path(values["data"], path.parent)
        return values

    def over(self, stored: dict[str, Any]) -> RunSettings:
        """What is stored of a run, with what is asked for in its place.

        Raises:
            OstrakonError: a value cannot be used.
        """
        words: dict[str, Any] = {name: value for name, value in self.words.items() if name != FILE}
        if "team" in self.filed:
            said = {"byzantine", "attack", "byzantine_vote", "fault"}  # by the team
            stored = {name: value for name, value in stored.items() if name not in said}
        if "options" in words:
            words["options"] = _options(words["options"])
        if "data" in words:
            words["data"] = whole_path(words["data"], Path())
        return build(RunSettings, stored | self.filed | words, source="ostrakon up")


def parse(words: Iterable[str]) -> Asked:
    """Read KEY=VALUE words; keys are those of `RunSettings`, and SETTINGS for a file of them, in any letter case.

    Raises:
        OstrakonError: a word has another form, or its key is unknown or given twice.
    """
    return Asked(read_words(words, _WORDS))


def run_name(asked: Asked) -> str:
    """The run that is meant: RUN, or else a name made of what was given.

    `ostrakon up RULE=Avg` is the run `rule-Avg`, so that the same words go on with the same run. A name that would be
    too long for a folder is cut, and ends with a digest of the whole.

    Raises:
        OstrakonError: the name cannot be a folder's, or the file of settings cannot be read.
    """
    given = asked.words
    named = given if "run" in given else asked.filed
    if "run" in named:
        return build(RunSettings, {"run": named["run"]}, source="ostrakon up").run
    telling = sorted(given.keys() - {"rounds", *MAY_DIFFER})
    parts = [f"{key}-{_PATHS[key](Path(given[key])) if key in _PATHS else given[key]}" for key in telling]
    name = "_".join(NOT_IN_NAMES.sub("-", part).strip("-") for part in parts) or DEFAULT_RUN
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:12]}"


def new_run(asked: Asked) -> RunSettings:
    """The settings of a new run: defaults, and what was given.

    Raises:
        OstrakonError: a value cannot be used.
    """
    return asked.over({"run": run_name(asked)})


def resumed_run(stored: RunSettings, asked: Asked) -> RunSettings:
    """The settings with which a run that exists goes on.

    Raises:
        OstrakonError: something was given that differs from what the run was started with.
    """
    given, wanted = asked.words, asked.over(stored.model_dump())
    for name in (*asked.filed, *(given.keys() - {FILE})):
        was, now = getattr(stored, name), getattr(wanted, name)
        if now == was or name in MAY_DIFFER or (name == "data" and was is not None and not was.exists()):
            continue  # data that are no longer where they were have been moved
        if name == "rounds":
            if now > was:
                continue
            raise OstrakonError(f"run {stored.run} goes on to ROUNDS={was}, now ROUNDS={now}: rounds may only grow")
        if name == "team":
            raise OstrakonError(f"run {stored.run} was started with another team: start another run with RUN=NAME")
        key, before, after = name.upper(), _shown(was), _shown(now)
        if name not in given:
            raise OstrakonError(
                f"run {stored.run} was started with {key}={before}, {given[FILE]} says {after}: "
                f"leave {FILE.upper()} out to go on with the run, or start another one with RUN=NAME"
            )
        raise OstrakonError(
            f"run {stored.run} was started with {key}={before}, now {key}={after}: "
            f"leave {key} out to go on with the run, or start another one with RUN=NAME"
        )
    return wanted


def check_parts(settings: RunSettings) -> None:
    """Refuse a rule or an attack that cannot be had, before anything is written.

    Raises:
        OstrakonError: the name or a parameter of it is unknown, the rule cannot meet the bound, or the attack cannot be
            mounted by so many against so many.
    """
    # They bring torch, which nobody should wait for whose words are wrong already.
    from ostrakon.common.aggregation import rule
    from ostrakon.worker.attacks import Defence, attack_schedule
    from ostrakon.worker.testbed.faults import fault_schedule

    defence = Defence(rule(settings.rule), settings.workers, settings.f)
    defence.rule.check_run(settings.workers, settings.f, asynchronous=settings.quorum == "asynchronous")
    honest = settings.workers - settings.byzantine
    for liars in {*settings.liars(), Liars(attack=settings.attack, fault=settings.fault)}:
        fault_schedule(liars.fault)
        for attack in attack_schedule(liars.attack).all():
            if settings.byzantine:
                attack.rehearse(honest, settings.byzantine, defence)


def described() -> str:
    """Every setting with its default and its meaning, one a line."""
    lines = []
    for name in _WORDS:
        if name == FILE:
            lines.append(f"  {f'{FILE.upper()}=':<28}TOML file with any of these, and liars of several kinds")
            continue
        field = RunSettings.model_fields[name]
        default = "" if field.default is None else str(field.default)
        lines.append(f"  {f'{name.upper()}={default}':<28}{field.description}")
    return "\n".join(lines)


def _options(text: str) -> dict[str, Any]:
    """The options in a word: `partition=by_shards(shards=3),classes=7`, texts with or without quotation marks."""
    try:
        call = read_call(f"options({text})")
    except OstrakonError:
        call = None
    if call is None or call.positional or not call.named:
        raise OstrakonError(f"OPTIONS={text[:200]!r} cannot be read: write OPTIONS=NAME=VALUE,NAME=VALUE")
    return {name: _option(value) for name, value in call.named.items()}


def _option(value: Any) -> Any:
    if isinstance(value, Expression):
        return {"true": True, "false": False}.get(value, str(value))
    return value


def _shown(value: Any) -> str:
    return ",".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, dict) else str(value)
