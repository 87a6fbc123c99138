"""Who answers calls, and what every call goes through first, whatever carries it: a share, an answer, or a refusal."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Reason
from ostrakon.server.core.metrics import Traffic
from ostrakon.server.core.refusal import Refused
from ostrakon.server.rpc.quota import Quota
from ostrakon.server.settings import ServerSettings
from ostrakon.v1 import parameter_server_pb2 as pb

T = TypeVar("T")

Send = Callable[[bytes], Awaitable[None]]  # puts one serialised `ModelPart` on the wire


class Answers(Protocol):
    """Answers to calls, from a coordinator's state or while its model is looked for; `calls.py` says what they mean.

    Every method raises `Refused` for a call that must not be answered.
    """

    @property
    def settings(self) -> ServerSettings: ...
    @property
    def traffic(self) -> Traffic: ...
    @property
    def quota(self) -> Quota: ...
    @property
    def term(self) -> int: ...
    @property
    def head_round(self) -> int: ...

    def join(self, caller: Identity, request: pb.JoinRequest) -> pb.JoinResponse: ...
    async def broadcast(self, caller: Identity, request: pb.BroadcastRequest, send: Send) -> None: ...
    async def submit(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.SubmitMomentumResponse: ...
    async def restore(self, caller: Identity, parts: AsyncIterator[pb.MomentumPart]) -> pb.RestoreResponse: ...
    async def propose(self, caller: Identity, request: pb.ProposeRequest, send: Send) -> None: ...
    async def vote(self, caller: Identity, request: pb.VoteRequest) -> pb.VoteResponse: ...
    def status(self, caller: Identity, request: pb.StatusRequest) -> pb.StatusResponse: ...
    def refuse(self, caller: Identity | None, reason: Reason) -> None: ...


async def judge(
    answers: Answers,
    identify: Callable[[], Identity],
    answer: Callable[[Identity], Awaitable[T]],
    refuse: Callable[[Refused], Awaitable[None]],
    *,
    upload: bool = False,
) -> T | None:
    """Answer one call, of a caller that has an identity and no more than its share; or count and `refuse` it.

    Args:
        identify: who calls; raises `Refused` where that cannot be known.
        answer: what is done for it; raises `Refused` too.
        refuse: tells the caller.
        upload: the call brings a vector, or a part of one.
    """
    caller: Identity | None = None

    async def refused(refusal: Refused) -> None:
        answers.refuse(caller, refusal.reason)
        await refuse(refusal)

    try:
        caller = identify()
        with answers.quota.admit(caller, upload=upload):
            try:
                await answers.quota.turn(caller, answers.head_round)
                return await answer(caller)
            except Refused as refusal:
                # The call counts as open until its status is sent: a caller that reads nothing gets no others.
                await refused(refusal)
    except Refused as refusal:  # of a caller without an identity, or of a call too many
        await answers.quota.turn(caller, answers.head_round)
        await refused(refusal)
    return None
