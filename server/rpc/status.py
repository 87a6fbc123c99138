"""Where a run stands, for operators and observers, whoever answers: a coordinator, or a recovery."""

from ostrakon.common.identity import Identity
from ostrakon.common.reasons import Missing, Reason, to_wire
from ostrakon.common.runtime import peak_bytes
from ostrakon.server.core.metrics import Traffic
from ostrakon.server.core.refusal import Refusals, Refused
from ostrakon.server.core.roster import Roster
from ostrakon.server.rpc.messages import commit_message
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.history import History
from ostrakon.server.storage.ledger import Entry
from ostrakon.v1 import parameter_server_pb2 as pb


def check_reader(caller: Identity, roster: Roster, what: str) -> None:
    """Let operators and observers read.

    Raises:
        Refused: the caller is neither, or is revoked.
    """
    if caller.role not in ("operator", "observer"):
        raise Refused(Reason.WRONG_ROLE, f"{caller.urn} may not read {what}")
    roster.check_not_revoked(caller)


def standing(
    settings: ServerSettings,
    stamp: pb.Stamp,
    *,
    history: History,
    last: Entry | None,
    roster: Roster,
    refusals: Refusals,
    traffic: Traffic,
    waiting: str,
) -> pb.StatusResponse:
    """All of a status that needs no open round."""
    response = pb.StatusResponse(
        stamp=stamp,
        rounds=settings.rounds,
        rule=settings.rule,
        task=settings.learns,
        roster=settings.roster,
        byzantine=settings.f,
        inner_wins=history.wins["inner"],
        outer_wins=history.wins["outer"],
        revoked=sorted(identity.urn for identity in roster.revoked),
        refused=[
            pb.RefusedCount(worker=who, reason=to_wire(Reason, why), count=count)
            for (who, why), count in sorted((history.refused + refusals.counted()).items())
        ],
        missing=[
            pb.MissingCount(worker=who, reason=to_wire(Missing, why), rounds=count)
            for (who, why), count in sorted(history.missing.items())
        ],
        bytes_received=traffic.received,
        bytes_sent=traffic.sent,
        peak_bytes=peak_bytes(),
        waiting=waiting,
        data_not_readable=roster.unreadable,
    )
    if last is not None:
        commit = commit_message(last)
        winners = sum(vote.choice == last.choice for vote in last.votes)
        response.committed.CopyFrom(commit)
        response.last_winner = commit.winner
        response.winner_votes = winners
        response.loser_votes = len(last.votes) - winners
    return response
