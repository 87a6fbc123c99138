"""What a scene sees: the worker's next call, what becomes of it, and the round around it."""

import asyncio
from typing import Any

from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.deploy.conformance.calls import Call
from ostrakon.deploy.conformance.server import Server
from ostrakon.deploy.conformance.worker import Worker
from ostrakon.server.core.refusal import Code, Refused
from ostrakon.server.core.round import Phase

NAME = "foreign"
WORKER = Identity("worker", NAME)

QUIET_SECONDS = 2.0  # without a call, after which a worker that cannot be watched has ended
LOOK_SECONDS = 0.005  # between two looks at whether a vote is counted: nobody is told of that
MOST_CALLS = 30  # on the way to a momentum: who needs more turns in circles


class Wrong(Exception):
    """What the worker did and should not have; a sentence."""


class Stage:
    """One server, and the worker whose calls it holds."""

    def __init__(self, server: Server, worker: Worker, patience: float) -> None:
        """`patience`: seconds that a call may take to come, and that an end may take."""
        self.server = server
        self._worker = worker
        self._patience = patience
        self._ended: asyncio.Task[int] | None = None
        self._started = False
        self._early: Call | None = None  # one that has arrived, and was not asked for yet
        self._after = ""  # what has just happened to the worker

    @property
    def round(self) -> int:
        """The one that is being decided."""
        return self.server.state.round.number

    # The worker's life.

    async def start(self) -> None:
        """Let the worker live, if it does not."""
        if self._ended is None or self._ended.done():
            await self._worker.start()
            self._ended = asyncio.create_task(self._worker.ended())
            self._started, self._after = True, "after it was started, "

    async def kill(self) -> None:
        """End the worker."""
        if self._ended is not None:
            await self._worker.kill()
            self._ended.cancel()
        self._ended = self._early = None

    async def leaves(self) -> bool:
        """Whether the worker ends rather than make another call."""
        self._early = await self._arrives(self._patience if self._worker.watched else QUIET_SECONDS)
        return self._early is None

    async def end(self, *, well: bool, why: str) -> None:
        """The worker ends, and calls nothing more.

        Args:
            well: with status 0.

        Raises:
            Wrong: it does not.
        """
        how = "its end with status 0" if well else "its end with a sentence, and a status that is not 0"
        watched = self._worker.watched
        call = await self._arrives(self._patience if watched else QUIET_SECONDS)
        if call is not None:
            raise Wrong(f"{self._after}it called {_told(call)}; expected {how}: {why}")
        status = self._status()
        if watched and status is None:
            raise Wrong(f"{self._after}it did not end within {self._patience:g} s; expected {how}: {why}")
        if status is not None and (status == 0) != well:
            raise Wrong(f"{self._after}it ended with status {status}; expected {how}: {why}")
        self._ended = None

    # Its calls.

    async def next(self, expected: str) -> Call:
        """Its next call, held; a Join is answered already.

        Raises:
            Wrong: there is none; `expected` says what should have come.
        """
        patience = self._worker.first_call if self._started else self._patience
        call = await self._arrives(patience)
        if call is not None:
            self._started = False
            return call
        status = self._status()
        did = f"made no call within {patience:g} s" if status is None else f"ended with status {status}"
        raise Wrong(f"{self._after}it {did}; expected {expected}")

    async def expect(self, method: str, why: str, **fields: Any) -> Call:
        """Its next call, which has to be this one, with these values in its fields.

        Raises:
            Wrong: it is not.
        """
        expected = f"{method}{_values(fields)}"
        call = await self.next(f"{expected}: {why}")
        found = {name: _field(call, name) for name in fields} if call.method == method else None
        if found != fields:
            said = _told(call) if found is None else f"{method}{_values(found)}"
            raise Wrong(f"{self._after}it called {said}; expected {expected}: {why}")
        return call

    async def served(self, call: Call, **how: Any) -> Any:
        """The server's answer to a call; `how`: as `Call.let_through`.

        Raises:
            Wrong: the server refuses it.
        """
        call.let_through(**how)
        await self.over(call)
        return call.answer

    async def over(self, call: Call) -> None:
        """A call that was let through is answered.

        Raises:
            Wrong: the server refuses it, or has nothing to say.
        """
        await self._over(call)
        if call.refusal is not None:
            raise Wrong(f"its {call.method} was refused as {call.refusal.reason}: {call.refusal}")
        self._after = f"after the answer to its {call.method}, "

    async def refused(self, call: Call, reason: Reason, *, really: bool = False) -> None:
        """A call is refused; `really`: by the server itself."""
        if really:
            call.let_through()
        else:
            call.refuse(Refused(reason, f"the conformance run says {reason}"))
        await self._over(call)
        if call.refusal is None or call.refusal.reason is not reason:
            said = "answered" if call.refusal is None else f"refused as {call.refusal.reason}: {call.refusal}"
            raise Wrong(f"its {call.method} was {said}; expected that it would be refused as {reason}")
        self._after = f"after its {call.method} was refused as {reason}, "

    def happened(self, what: str) -> None:
        """Something else did: a sentence about the worker begins with it."""
        self._after = f"after {what}, "

    # The round.

    async def momentum(self) -> Call:
        """Its momentum of the round that is being decided, held: all that it calls before is answered.

        Raises:
            Wrong: it never sends one.
        """
        await self.start()
        expected = f"SubmitMomentum (round {self.round}): the round takes momenta"
        for _ in range(MOST_CALLS):
            call = await self.next(expected)
            stamp = call.request.stamp
            if call.method == "SubmitMomentum" and (stamp.term, stamp.round) == (self.server.held.term, self.round):
                return call
            call.let_through()
            await self._over(call)
            if call.refusal is not None and call.refusal.code in (
                *(Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED),
            ):
                raise Wrong(f"its {call.method} was refused as {call.refusal.reason}: {call.refusal}")
        raise Wrong(f"{self._after}it made {MOST_CALLS} calls; expected {expected}")

    async def whole_round(self) -> None:
        """A round as it should be.

        Raises:
            Wrong: the worker does not take part in it so.
        """
        await self.served(await self.momentum())
        await self.served(await self.candidates())
        await self.over(await self.vote())

    async def candidates(self) -> Call:
        """The others submit; it asks for the candidates, held.

        Raises:
            Wrong: it does not.
        """
        round = self.round
        await self.server.companions.submit()
        return await self.expect("Propose", "its momentum was accepted", round=round)

    async def vote(self, why: str = "it has both candidates", **fields: Any) -> Call:
        """It votes, which is counted, and then the others do: the round is committed.

        Raises:
            Wrong: it does not vote.
        """
        round = self.server.state.round
        call = await self.expect("Vote", why, round=round.number, **fields)
        call.let_through()
        while NAME not in round.votes and not call.over.is_set():
            await asyncio.sleep(LOOK_SECONDS)
        await self.server.companions.vote("inner")
        return call

    async def closed(self) -> None:
        """The others submit, and the round takes no momenta any more."""
        await self.server.companions.submit()
        self.server.pass_grace()
        await self.server.companions.closed()

    async def without_it(self) -> None:
        """The others bring the round to its end."""
        if self.server.state.round.phase is Phase.COLLECTING:
            await self.closed()
        await self.server.companions.vote("inner")

    async def _arrives(self, patience: float) -> Call | None:
        """The next call; None where there is none for so long, or the worker has ended."""
        if self._early is not None:
            early, self._early = self._early, None
            return early
        getting = asyncio.create_task(self._open_call())
        watched = {getting} if self._ended is None else {getting, self._ended}
        try:
            await asyncio.wait(watched, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()

    async def _open_call(self) -> Call:
        """The next one whose caller is still there; a Join was answered at once."""
        while True:
            call = await self.server.held.arrived.get()
            if call.waits or call.method == "Join":
                return call

    def _status(self) -> int | None:
        return self._ended.result() if self._ended is not None and self._ended.done() else None

    async def _over(self, call: Call) -> None:
        try:
            await asyncio.wait_for(call.over.wait(), self._patience)
        except TimeoutError:
            raise Wrong(f"its {call.method} did not come to its end within {self._patience:g} s") from None


def _field(call: Call, name: str) -> Any:
    """A value of a request: a field of it, of its stamp or of an upload's header."""
    request = call.request
    if name in ("round", "term"):
        return getattr(request.stamp, name)
    return getattr(request.header if call.method in ("SubmitMomentum", "Restore") else request, name)


def _told(call: Call) -> str:
    fields = {"Join": (), "Broadcast": ("after",)}.get(call.method, ("round",))
    return f"{call.method}{_values({name: _field(call, name) for name in fields})}"


def _values(fields: dict[str, Any]) -> str:
    shown = [f"{name} {value[:12] if isinstance(value, str) else value}" for name, value in fields.items()]
    return f" ({', '.join(shown)})" if shown else ""
