"""Vectors on the wire: what is cut comes back bit for bit, and nothing else gets through."""

import random

import numpy as np
import pytest

from ostrakon.common.digest import digest
from ostrakon.common.reasons import Reason
from ostrakon.common.wire import CHUNK_BYTES, LANES, Lanes, Receiver, Vector, WireError, check_finite, chunks, pieces
from ostrakon.v1 import parameter_server_pb2 as pb

PER_CHUNK = CHUNK_BYTES // 4


def random_vector(d: int) -> Vector:
    return np.random.default_rng(d).standard_normal(d).astype(np.float32)


def receive(vector: Vector, into: Vector) -> Receiver:
    receiver = Receiver(into)
    for chunk in chunks(vector):
        receiver.write(chunk)
    return receiver


def refusal(action: object, *arguments: object) -> Reason:
    with pytest.raises(WireError) as caught:
        action(*arguments)  # type: ignore[operator]
    return caught.value.reason


@pytest.mark.parametrize("d", [1, 7, PER_CHUNK - 1, PER_CHUNK, PER_CHUNK + 1, 2 * PER_CHUNK, 2 * PER_CHUNK + 5])
def test_a_vector_arrives_bit_for_bit_whatever_its_length(d: int) -> None:
    vector, memory = random_vector(d), np.full(d, np.nan, dtype=np.float32)
    receiver = receive(vector, memory)
    assert receiver.complete
    receiver.finish(digest(vector))
    check_finite(memory)
    assert memory.tobytes() == vector.tobytes()


def test_chunks_are_one_mebibyte_little_endian_and_in_order() -> None:
    vector = random_vector(2 * PER_CHUNK + 1)
    cut = list(chunks(vector))
    assert [chunk.offset for chunk in cut] == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
    assert [len(chunk.data) for chunk in cut] == [CHUNK_BYTES, CHUNK_BYTES, 4]
    assert b"".join(chunk.data for chunk in cut) == vector.astype("<f4").tobytes()


def test_a_chunk_survives_changes_of_the_vector_it_was_cut_from() -> None:
    vector = random_vector(4)
    before = vector.tobytes()
    (chunk,) = chunks(vector)
    vector[:] = 0
    assert chunk.data == before


def test_a_row_of_a_larger_buffer_is_written_and_its_neighbours_are_not() -> None:
    rows = np.zeros((3, 5), dtype=np.float32)
    receive(random_vector(5), rows[1]).finish(digest(random_vector(5)))
    assert rows[1].tobytes() == random_vector(5).tobytes()
    assert not rows[0].any() and not rows[2].any()


def test_chunks_of_any_size_are_taken_if_they_follow_each_other() -> None:
    vector, memory = random_vector(5), np.zeros(5, dtype=np.float32)
    data, receiver = vector.tobytes(), Receiver(memory)
    for start, end in ((0, 1), (1, 6), (6, 19), (19, 20)):  # sizes that split values
        receiver.write(pb.Chunk(offset=start, data=data[start:end]))
    receiver.finish(digest(vector))
    assert memory.tobytes() == data


@pytest.mark.parametrize("offset", [4, 8, 16, 2**63])
def test_a_gap_or_a_jump_is_refused_and_writes_nothing(offset: int) -> None:
    memory = np.zeros(5, dtype=np.float32)
    assert refusal(Receiver(memory).write, pb.Chunk(offset=offset, data=b"\1\1\1\1")) == Reason.WRONG_OFFSET
    assert not memory.any()


def test_a_chunk_that_comes_twice_is_refused() -> None:
    memory = np.zeros(2, dtype=np.float32)
    receiver = Receiver(memory)
    chunk = pb.Chunk(offset=0, data=b"\1\1\1\1")
    receiver.write(chunk)
    assert refusal(receiver.write, chunk) == Reason.WRONG_OFFSET


def test_an_empty_chunk_is_refused_so_that_no_stream_lasts_for_ever() -> None:
    assert refusal(Receiver(np.zeros(2, dtype=np.float32)).write, pb.Chunk(offset=0)) == Reason.WRONG_LENGTH


def test_data_past_the_end_is_refused_and_writes_nothing() -> None:
    rows = np.zeros((2, 2), dtype=np.float32)
    assert refusal(Receiver(rows[0]).write, pb.Chunk(offset=0, data=b"\1" * 12)) == Reason.TOO_MUCH_DATA
    assert not rows.any()
    receiver = receive(random_vector(2), rows[0])
    assert refusal(receiver.write, pb.Chunk(offset=8, data=b"\1")) == Reason.TOO_MUCH_DATA
    assert not rows[1].any()


def test_a_vector_with_bytes_missing_is_refused() -> None:
    receiver = Receiver(np.zeros(2, dtype=np.float32))
    assert refusal(receiver.finish, digest(np.zeros(2, dtype=np.float32))) == Reason.WRONG_LENGTH
    receiver.write(pb.Chunk(offset=0, data=b"\1" * 7))
    assert not receiver.complete
    assert refusal(receiver.finish, "") == Reason.WRONG_LENGTH


@pytest.mark.parametrize("announced", ["", "0" * 64, "not a digest"])
def test_bytes_that_are_not_what_the_digest_names_are_refused(announced: str) -> None:
    assert refusal(receive(random_vector(3), np.zeros(3, dtype=np.float32)).finish, announced) == Reason.WRONG_DIGEST


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, PER_CHUNK - 1, PER_CHUNK, PER_CHUNK + 2])
def test_one_value_that_is_not_finite_is_found_wherever_it_stands(value: float, index: int) -> None:
    vector = random_vector(PER_CHUNK + 3)
    vector[index] = value
    with pytest.raises(WireError, match=rf"value {index} ") as caught:
        check_finite(vector)
    assert caught.value.reason == Reason.NOT_FINITE


@pytest.mark.parametrize("lanes", [1, 2, 5, LANES])
@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 20 * CHUNK_BYTES + 3])
def test_the_pieces_of_lanes_are_the_whole_vector_and_none_is_larger_than_a_chunk(lanes: int, size: int) -> None:
    cut = pieces(size, lanes)
    assert [place for piece in cut for place in (piece.start, piece.stop)][1:-1:2] == [piece.start for piece in cut[1:]]
    assert sum(piece.stop - piece.start for piece in cut) == size
    assert all(0 < piece.stop - piece.start <= CHUNK_BYTES for piece in cut)


def test_a_vector_comes_together_from_lanes_that_overtake_each_other() -> None:
    vector, memory = random_vector(6 * PER_CHUNK + 5), np.full(6 * PER_CHUNK + 5, np.nan, dtype=np.float32)
    receiver = Lanes(memory, 4)
    left = [list(chunks(vector, lane, 4)) for lane in range(4)]
    dice = random.Random(1)
    while any(left):
        lane = dice.choice([lane for lane in range(4) if left[lane]])
        assert not receiver.complete
        receiver.write_piece(lane, left[lane].pop(0))
    assert receiver.complete
    receiver.finish(digest(vector))
    assert memory.tobytes() == vector.tobytes()


def test_a_lane_brings_its_own_pieces_in_order_and_nothing_else() -> None:
    vector, memory = random_vector(3 * PER_CHUNK), np.zeros(3 * PER_CHUNK, dtype=np.float32)
    receiver = Lanes(memory, 2)
    mine, others = list(chunks(vector, 0, 2)), list(chunks(vector, 1, 2))
    assert refusal(receiver.write_piece, 0, others[0]) == Reason.WRONG_OFFSET
    assert refusal(receiver.write_piece, 0, mine[1]) == Reason.WRONG_OFFSET
    assert refusal(receiver.write_piece, 0, pb.Chunk(offset=0, data=mine[0].data[:-4])) == Reason.WRONG_LENGTH
    assert not memory.any()
    for chunk in mine:
        receiver.write_piece(0, chunk)
    assert refusal(receiver.write_piece, 0, mine[0]) == Reason.TOO_MUCH_DATA
    assert refusal(receiver.finish, digest(vector)) == Reason.WRONG_LENGTH
