"""Who is let in: what a Join has to bring, whoever answers it, and what it says of the server's ledger."""

from ostrakon.common.digest import DIGEST_SCHEME
from ostrakon.common.errors import OstrakonError
from ostrakon.common.layout import difference, layout_digest, parameters
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import PROTOCOL
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.roster import KnownHead, Roster
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.ledger import Genesis
from ostrakon.v1 import parameter_server_pb2 as pb

LONGEST_NAME = 200  # characters: what a worker makes the server remember
LONGEST_EXCUSE = 500


def check_protocol(stamp: pb.Stamp, run: str, *, run_may_be_empty: bool = False) -> None:
    """Accept callers that speak this protocol and mean this run.

    Raises:
        Refused: they do not.
    """
    if stamp.protocol != PROTOCOL:
        raise Refused(
            Reason.WRONG_PROTOCOL,
            f"this server speaks protocol {PROTOCOL}, the caller {stamp.protocol}: install the same version",
        )
    if stamp.run != run and not (run_may_be_empty and not stamp.run):
        raise Refused(Reason.WRONG_RUN, f"this server serves run {run}, not {stamp.run[:60]!r}")


def check_term(stamp: pb.Stamp, term: int) -> None:
    """Accept calls to the server of this term.

    Raises:
        Refused: the caller means another one.
    """
    if stamp.term != term:
        raise Refused(Reason.WRONG_TERM, f"this server's term is {term}, not {stamp.term}: join again")


def check_session_is_named(request: pb.JoinRequest) -> None:
    """Accept workers whose process life has a name.

    Raises:
        Refused: it has none; two processes under one certificate could then not be told apart.
    """
    if not request.session:
        raise Refused(Reason.NO_SESSION, "expected a session in a worker's Join: a random name of its process life")


def check_built_for(request: pb.JoinRequest, genesis: Genesis) -> None:
    """Accept workers and observers that were built for this run.

    Raises:
        Refused: the caller learns another task, or its model is another one.
    """
    task = genesis.settings["task"]
    names = (request.session, request.head.hash, request.task, request.layout_digest, request.constants)
    if max(map(len, names)) > LONGEST_NAME or len(request.data_not_readable) > LONGEST_EXCUSE:
        raise Refused(Reason.LONG_NAME, f"a name in a Join has up to {LONGEST_NAME} characters")
    if request.task != task:
        raise Refused(
            Reason.DIFFERENT_TASK,
            f"this run learns the task {task}, the worker was built for {request.task}: "
            f"set task = '{task.partition('(')[0]}' in the worker's settings"
            + (", and these options" if "(" in task else ""),
        )
    if (found := _other_model(request, genesis)) is not None:
        raise Refused(
            Reason.DIFFERENT_MODEL,
            f"{found}: both must be built by the same code, frozen parts from the same weights",
        )
    if request.digest_scheme != DIGEST_SCHEME:
        raise Refused(
            Reason.DIFFERENT_DIGEST,
            f"this server names models by {DIGEST_SCHEME}, the worker by {request.digest_scheme}",
        )


def _other_model(request: pb.JoinRequest, genesis: Genesis) -> str | None:
    """Where the caller's model differs from the run's, in half a sentence."""
    layout = tuple((one.name, tuple(one.shape)) for one in request.layout)
    if request.layout_digest and request.layout_digest != layout_digest(genesis.layout):
        all_came = parameters(layout) == request.parameters
        run = genesis.layout if all_came else genesis.layout[: len(layout)]
        return difference(run, layout, "the caller's") or f"the models differ after {len(layout)} parameters"
    if request.parameters != genesis.parameters:
        return f"this run's model has {genesis.parameters} parameters, the caller's has {request.parameters}"
    if request.layout_digest and genesis.constants is not None and request.constants != genesis.constants:
        return (
            "the caller's frozen parameters or buffers have other values than those of this run's model (constants "
            "that each host computes can be registered with persistent=False)"
        )
    return None


def known_head(request: pb.JoinRequest) -> KnownHead | None:
    """The last entry that the worker was told of, if any."""
    return KnownHead(request.head.round, request.head.hash) if request.head.hash else None


def old_copy(settings: ServerSettings, roster: Roster, round: int, hash: str) -> OstrakonError | None:
    """Why a ledger that ends with (round, hash) must not be served: more workers than may lie remember a later one."""
    ahead = roster.ahead_of(round, hash)
    if len(ahead) <= settings.f:
        return None
    return OstrakonError(
        f"{', '.join(ahead)} (more than f = {settings.f} workers) remember rounds that this ledger, "
        f"which ends with round {round}, does not hold: an old copy was put back. Put the newest copy back; or, to go "
        f"on from this one, begin a new run: ostrakon branch {settings.directory} --output FILE, and "
        "initial = FILE in the settings of a run with another directory"
    )


def welcome(
    settings: ServerSettings, stamp: pb.Stamp, *, position: int, parameters: int, two_phase: bool, wanted: str = ""
) -> pb.JoinResponse:
    """The answer to a Join."""
    return pb.JoinResponse(
        stamp=stamp,
        position=position,
        workers=len(settings.roster),
        byzantine=settings.f,
        rule=settings.rule,
        two_phase=two_phase,
        rounds=settings.rounds,
        parameters=parameters,
        wanted=wanted,
        wire=pb.WIRE_BF16 if settings.wire == "bf16" else pb.WIRE_FLOAT32,
    )
