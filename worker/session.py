"""The worker of a task: it trains and votes by itself, round after round, until the run is over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from ostrakon.common.algorithm import Step
from ostrakon.common.choice import Ballot, Outcome
from ostrakon.common.clock import Clock
from ostrakon.common.layout import Layout
from ostrakon.common.tasks.data import DataNotReadable
from ostrakon.common.wire import Vector
from ostrakon.worker.introduction import introduction
from ostrakon.worker.rounds import Rounds
from ostrakon.worker.settings import SERVER_TIMEOUT
from ostrakon.worker.training import Momentum
from ostrakon.worker.transport import Transport

log = structlog.get_logger()

LONGEST_EXCUSE = 500  # characters


class Learner(Protocol):
    """What a worker computes."""

    def begin(self, position: int, workers: int) -> None:
        """Take the examples of this place on the roster; called after every Join."""
        ...

    def momentum(self, round: int, base: str, theta: Vector) -> Momentum:
        """The momentum of this round."""
        ...

    def prepare(self, round: int, base: str, theta: Vector, taken: Step) -> None:
        """What the vote of this round needs and does not have to wait for the candidates; may be called again."""
        ...

    def judge(self, round: int, inner: Vector, outer: Vector) -> Ballot:
        """The vote of this round."""
        ...


class Session:
    """Takes part in a run until it is over.

    Attributes:
        rounds: where it stands.
    """

    def __init__(
        self,
        task: str,
        parameters: int,
        learner: Learner,
        transport: Transport,
        clock: Clock,
        *,
        layout: Layout = (),
        constants: str = "",
        data_timeout: float = 60.0,
        server_timeout: float = SERVER_TIMEOUT,
        diagnose: Callable[[], str | None] = lambda: None,
        offload: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        """`layout` and `constants` say what the model is, beside its number of parameters: see `introduction`;
        `data_timeout`: seconds that data which cannot be read are waited for; the others are as for `Rounds`.
        """
        self.rounds = Rounds(
            introduction(task, parameters, layout, constants),
            transport,
            clock,
            take_place=self._take_place,
            server_timeout=server_timeout,
            diagnose=diagnose,
            offload=offload,
        )
        self._learner = learner
        self._clock = clock
        self._data_timeout = data_timeout
        self._unreadable_since: float | None = None
        self._offload = offload

    async def take_part(self) -> Outcome | None:
        """Work until the run is over.

        Raises:
            OstrakonError: this worker is not let in, or cannot go on.
        """
        rounds, learner = self.rounds, self._learner
        while (begun := await rounds.next()) is not None:
            number, base, theta = begun.number, begun.base, begun.theta
            await rounds.submit(await self._offload(learner.momentum, number, base, theta))
            if rounds.voting:  # between the submission and the candidates, while others submit
                await self._offload(learner.prepare, number, base, theta, rounds.taken)
            while (candidates := await rounds.candidates()) is not None:
                await rounds.vote(await self._offload(learner.judge, number, *candidates))
        return rounds.outcome

    async def _take_place(self, position: int, workers: int) -> str | None:
        """Take the examples of this place on the roster; returns what is wrong with them, None for nothing.

        Raises:
            DataNotReadable: they have been so for too long.
        """
        try:
            await self._offload(self._learner.begin, position, workers)
        except DataNotReadable as error:
            now = self._clock.now()
            if self._unreadable_since is None:
                self._unreadable_since = now
                log.warning("data not readable", why=str(error), waiting_seconds=self._data_timeout)
            if now - self._unreadable_since >= self._data_timeout:
                raise
            return str(error)[:LONGEST_EXCUSE]
        if self._unreadable_since is not None:
            log.info("data are readable now")
            self._unreadable_since = None
        return None
