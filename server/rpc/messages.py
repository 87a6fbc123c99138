"""What the server says of models: stamps, headers, and chunks that are serialised once for all readers."""

from collections.abc import Iterable, Iterator, Mapping

from ostrakon.common.bf16 import Half
from ostrakon.common.wire import PROTOCOL, Vector, chunks
from ostrakon.server.core.coordinator import Coordinator
from ostrakon.server.storage.ledger import Entry
from ostrakon.v1 import parameter_server_pb2 as pb

AVERAGE = "average"  # stands for a digest where the average of the iterates is sent: it is no committed model


class Messages:
    """Turns the coordinator's state into messages."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        # For the readers of `_round`: models by digest, and first parts by what they say before the first chunk.
        self._serialised: dict[str, list[bytes]] = {}
        self._first: dict[bytes, bytes] = {}
        self._round = 0

    def stamp(self, round: int | None = None) -> pb.Stamp:
        """Run, term and, unless told otherwise, the round that is being decided."""
        state = self._coordinator
        number = state.head_round + 1 if round is None else round
        return pb.Stamp(protocol=PROTOCOL, run=state.chain.genesis.run, term=state.term, round=number)

    def models(self, vectors: Mapping[str, Vector | Half], holds: Iterable[str]) -> Iterator[bytes]:
        """A header that names these models, then the bytes of those that the reader does not hold."""
        if self._round != self._coordinator.head_round:
            self._round, self._serialised, self._first = self._coordinator.head_round, {}, {}
        held = set(holds)
        follow = [digest for digest in vectors if digest not in held]
        # Everything is serialised before the first yield: a slow reader keeps its own round's bytes.
        header = self._header(list(vectors), follow).SerializeToString()
        chunks = [chunk for digest in follow for chunk in self._once(digest, vectors[digest])]
        if chunks and header not in self._first:
            self._first[header] = header + chunks[0]  # parts that are put together are one with the fields of both
        yield self._first[header] if chunks else header
        yield from chunks[1:]

    def decided(self, entry: Entry) -> bytes:
        """A header without models: the round is committed already."""
        part = self._header([], [])
        part.stamp.round = entry.round
        part.header.decided.CopyFrom(commit_message(entry))
        return part.SerializeToString()

    def average(self) -> Iterator[bytes]:
        """The average of the committed iterates."""
        # That of the header's round, however slowly it is read.
        average = self._chunks(self._coordinator.chain.average())
        yield self._header([AVERAGE], [AVERAGE]).SerializeToString() + next(average)
        yield from average

    def _header(self, digests: list[str], follow: list[str]) -> pb.ModelPart:
        state = self._coordinator
        return pb.ModelPart(
            stamp=self.stamp(),
            header=pb.ModelHeader(
                digests=digests,
                follow=follow,
                parameters=state.chain.theta.size,
                head=pb.Head(round=state.head_round, hash=state.chain.head_hash),
                phase=run_phase(state),
                step=step_message(state),
            ),
        )

    def _once(self, digest: str, vector: Vector | Half) -> list[bytes]:
        if digest not in self._serialised:
            self._serialised[digest] = list(self._chunks(vector))
        return self._serialised[digest]

    def _chunks(self, vector: Vector | Half) -> Iterator[bytes]:
        stamp = self.stamp()
        return (pb.ModelPart(stamp=stamp, chunk=chunk).SerializeToString() for chunk in chunks(vector))


def run_phase(state: Coordinator) -> str:
    """Name of the `RunPhase`: the round's phase, or how the run ended."""
    return f"RUN_PHASE_{(state.finished or state.round.phase.value).upper()}"


def step_message(state: Coordinator) -> pb.Step:
    """What a worker is told of the step of the round that is being decided."""
    step = state.settings.step(state.head_round + 1)
    return pb.Step(gamma=step.gamma, keep=step.keep)


def commit_message(entry: Entry) -> pb.Commit:
    """What a worker is told of an entry."""
    return pb.Commit(
        head=pb.Head(round=entry.round, hash=entry.hash),
        winner=pb.CHOICE_INNER if entry.choice == "inner" else pb.CHOICE_OUTER,
        digest=entry.winner,
    )
