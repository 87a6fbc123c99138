"""Whatever reads what somebody else wrote: messages, files, names. Each may refuse in the ways it documents, only."""

import asyncio
import json
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from ostrakon.common.aggregation import rule
from ostrakon.common.aggregation.registry import EXAMPLES
from ostrakon.common.digest import digest
from ostrakon.common.errors import OstrakonError
from ostrakon.common.identity import identity_of, parse
from ostrakon.common.identity.credentials import Credentials, read_certificate
from ostrakon.common.identity.revocation import read_revoked
from ostrakon.common.layout import parameters
from ostrakon.common.learning_rate import learning_rate
from ostrakon.common.model_file import read_model
from ostrakon.common.settings import TlsFiles, read
from ostrakon.common.tasks.files.batches import read_batches
from ostrakon.common.tasks.files.idx import read_idx
from ostrakon.common.tasks.files.leaf import read_leaf
from ostrakon.common.tasks.registry import task
from ostrakon.deploy.certificates import issue
from ostrakon.deploy.goal import read_goal
from ostrakon.deploy.launch_settings import new_run
from ostrakon.deploy.launch_settings import parse as parse_words
from ostrakon.deploy.record import read_lines
from ostrakon.deploy.settings import RunSettings
from ostrakon.server.core.refusal import Refused
from ostrakon.server.core.uploads import Uploads
from ostrakon.server.rpc.joining import check_built_for, check_protocol, known_head
from ostrakon.server.settings import ServerSettings
from ostrakon.server.storage.ledger import Entry, Genesis
from ostrakon.server.storage.model_store import ModelStore, initial_key
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.attacks import attack_schedule
from ostrakon.worker.initial import write_initial
from ostrakon.worker.settings import WorkerSettings
from ostrakon.worker.testbed.faults import fault_schedule
from ostrakon.worker.testbed.settings import WorkerFile
from ostrakon.worker.transport import CallFailed, receive_models
from tests.fuzz import examples
from tests.fuzz.examples import IMAGES, RUN, SIDE, D, folder, frames
from tests.harness.driven_worker import random_vector
from tests.harness.image_files import idx

T = TypeVar("T")
USER = (OstrakonError,)
SAN = "x509_subject_alternative_name"


@dataclass(frozen=True)
class Parser:
    """What is read, how it may be refused, and what it accepts: examples to begin from."""

    read: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...]
    examples: Callable[[], Iterable[bytes]]

    def check(self, raw: bytes) -> bool:
        """Read something; returns whether it was accepted. Anything but a refusal comes out."""
        try:
            self.read(raw)
        except self.refuses as refusal:
            if type(refusal) in (OstrakonError, ValueError):
                assert str(refusal) and "\n" not in str(refusal), refusal  # one sentence, one line of a log
            return False
        return True


def _from_file(read: Callable[[Path], T]) -> Callable[[bytes], T]:
    def from_bytes(raw: bytes) -> T:
        path = folder() / "file"
        path.write_bytes(raw)
        return read(path)

    return from_bytes


def _from_text(read: Callable[[str], T]) -> Callable[[bytes], T]:
    return lambda raw: read(raw.decode("utf-8", "surrogateescape"))  # as words of a command line come


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    return _loop().run_until_complete(coroutine)


async def _messages(kind: type[Message], raw: bytes) -> AsyncIterator[Any]:
    for frame in frames(raw):
        yield kind.FromString(frame)


def _write(folder: Path, names: Sequence[str], raw: bytes) -> list[Path]:
    """Files from their contents in one; one that is missing there is empty."""
    folder.mkdir(exist_ok=True)
    paths, contents = [folder / name for name in names], list(frames(raw))
    for number, path in enumerate(paths):
        path.write_bytes(contents[number] if number < len(contents) else b"")
    return paths


def _join(raw: bytes) -> None:
    request = pb.JoinRequest.FromString(raw)
    check_protocol(request.stamp, RUN, run_may_be_empty=True)
    check_built_for(request, examples.a_genesis())
    known_head(request)


def _upload(raw: bytes) -> None:
    memory = np.full(D + 2, 7, dtype=np.float32)
    row = memory[1:-1]

    async def receive() -> str:
        uploads = Uploads(1, 0.01, 1e9)  # of several lanes, the others do not come
        parts = _messages(pb.MomentumPart, raw)
        first = await uploads.header(parts)
        await uploads.receive("a", parts, row, first)
        return first.header.digest

    try:
        announced = _run(receive())
        assert np.isfinite(row).all() and digest(row) == announced
    finally:
        assert memory[0] == memory[-1] == 7


def _models(raw: bytes) -> None:
    models = _run(receive_models(_messages(pb.ModelPart, raw), D, count=2))
    for name, vector in models.vectors.items():
        assert digest(vector) == name


def _json(kind: type[Genesis] | type[Entry], example: Callable[[], str]) -> Parser:
    """The bytes are JSON; or, after a 0, up to 8 pairs: which value of the example is replaced, by what."""

    def from_bytes(raw: bytes) -> object:
        if raw[:1] != b"\0":
            return _written_again(kind, raw.decode("utf-8", "surrogateescape"))
        values = json.loads(example())
        for at, what in zip(raw[1:17:2], raw[2:18:2], strict=False):
            places = list(_places(values))
            container, key = places[at % len(places)]
            container[key] = json.loads(_VALUES[what % len(_VALUES)])
        return _written_again(kind, json.dumps(values, sort_keys=True, separators=(",", ":")))

    return Parser(from_bytes, (ValueError,), lambda: [example().encode(), b"\0"])


_VALUES = (
    *("null", "true", "0", "-1", "1.5", "NaN", "-Infinity", "1e999", "9" * 400, str(2**63)),
    *('""', '"x"', '"\\ud800"', '"nan"', '"1e999"', "[]", "[[]]", "[1, [2]]", '["x"]', "{}"),
    *('{"x": 1}', '{"x": {"y": []}}', "[" * 500 + "]" * 500),
)


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield values, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _written_again(kind: type[Genesis] | type[Entry], text: str) -> None:
    read = kind.from_json(text)
    try:
        assert kind.from_json(read.to_json()).hash == read.hash
    except ValueError as error:
        raise AssertionError("what was read cannot be written, or not read again") from error


def _model(path: Path) -> None:
    model = read_model(path)
    assert model.theta.shape == (parameters(model.layout),) and np.isfinite(model.theta).all()
    model.fixed.digest()


def _stored(raw: bytes) -> None:
    theta = random_vector(D, 1)
    store, key = ModelStore(folder() / "models"), initial_key(digest(theta), D)
    store.path(key).write_bytes(raw)
    for found in (store.theta(key.digest), store.running_sum(key)):
        assert found is None or found.shape == (D,)
    assert digest(store.read(key).theta) == key.digest


def _identity(text: str) -> None:
    assert parse(text).urn == text


def _credentials(raw: bytes) -> None:
    ca, certificate, key = _write(folder() / "process", ("ca.pem", "w00.pem", "w00.key"), raw)
    Credentials.load(TlsFiles(ca=ca, certificate=certificate, key=key), "worker")


def _authority(raw: bytes) -> None:
    _write(folder() / "authority", ("ca.pem", "ca.key", "server-s.pem", "server-s.key"), raw)
    issue(folder() / "authority", "server", "s", renew=True)


def _rule(text: str) -> None:
    made = rule(text)
    try:
        assert rule(made.name).name == made.name
    except OstrakonError as error:
        raise AssertionError("a rule's own name cannot be read") from error


def _words(text: str) -> None:
    new_run(parse_words(text.split("\0")))


def _arrays(raw: bytes) -> None:
    # The headers of x and y; around them what a mutation would break and never mend: lengths and check sums.
    path = folder() / "arrays.npz"
    with zipfile.ZipFile(path, "w") as file:
        for name, header in zip("xy", raw.split(b"\0", 1), strict=False):
            length = len(header).to_bytes(2, "little")
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + length + header + bytes(IMAGES * SIDE * SIDE))
    task("femnist", path).test_data(1)


def _idx(raw: bytes) -> None:
    images, labels = (folder() / f"{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
    images.write_bytes(raw)
    labels.write_bytes(idx(np.arange(3, dtype=np.uint8)))
    read_idx([images], side=SIDE, classes=62)


def _batch(raw: bytes) -> None:
    place = folder() / "batches"
    place.mkdir(exist_ok=True)
    (place / "data_batch_1").write_bytes(raw)
    read_batches(place, side=32, channels=3, classes=10)


def _weights(path: Path) -> None:
    write_initial(WorkerSettings(task="linear"), folder() / "initial.safetensors", path)


def _texts(*texts: str) -> Callable[[], Iterable[bytes]]:
    return lambda: [text.encode() for text in texts]


PARSERS: dict[str, Parser] = {
    "join": Parser(_join, (DecodeError, Refused), examples.joins),
    "upload": Parser(_upload, (DecodeError, Refused), examples.uploads),
    "models": Parser(_models, (DecodeError, CallFailed), examples.models),
    "genesis": _json(Genesis, examples.genesis),
    "entry": _json(Entry, examples.entry),
    "model-file": Parser(_from_file(_model), USER, examples.model_file),
    "stored-model": Parser(_stored, USER, examples.stored_model),
    "data-file": Parser(_from_file(lambda path: task("femnist", path).test_data(1)), USER, examples.data_file),
    "data-arrays": Parser(_arrays, USER, examples.data_arrays),
    "leaf-file": Parser(_from_file(lambda path: read_leaf([path], side=SIDE, classes=62)), USER, examples.leaf_file),
    "idx-file": Parser(_idx, USER, examples.idx_file),
    "cifar-batch": Parser(_batch, USER, examples.cifar_batch),
    "identity": Parser(_from_text(_identity), USER, _texts("urn:ostrakon:worker:w00", "urn:ostrakon:server:a.b-c_d")),
    "peer": Parser(lambda raw: identity_of({SAN: raw.split(b"\0")}), (), _texts("w00\0urn:ostrakon:worker:w00")),
    "certificate": Parser(_from_file(read_certificate), USER, examples.certificate),
    "credentials": Parser(_credentials, USER, examples.credentials),
    "authority": Parser(_authority, USER, examples.authority),
    "revoked": Parser(_from_file(read_revoked), USER, _texts("# shut out\n\n urn:ostrakon:worker:w00\n")),
    "rule": Parser(_from_text(_rule), USER, _texts("Mean2P", *EXAMPLES, "Bucketing(2)+NNM+GM(iterations=3)")),
    "attack": Parser(_from_text(attack_schedule), USER, _texts("SF@0,Omn@200", "SF(scale=1e3),none@7,LF@9")),
    "fault": Parser(_from_text(fault_schedule), USER, _texts("silent@20,none@40", "slow(seconds=0.5)")),
    "learning-rate": Parser(
        _from_text(learning_rate), USER, _texts("0.5@0,0.05@200", "0.1*warmup(30)*cosine(400),1e-3@7")
    ),
    "goal": Parser(_from_text(read_goal), USER, _texts("accuracy>=0.9", "no higher accuracy in 10", "loss <= 5%")),
    "weights": Parser(_from_file(_weights), USER, examples.weights),
    "server-settings": Parser(_from_file(partial(read, ServerSettings)), USER, _texts(examples.SERVER)),
    "worker-settings": Parser(_from_file(partial(read, WorkerFile)), USER, _texts(examples.WORKER)),
    "run-settings": Parser(_from_file(partial(read, RunSettings)), USER, _texts(examples.TEAM)),
    "words": Parser(
        _from_text(_words), USER, _texts("WORKERS=7\0F=3\0rule=Avg", "RUN=a\0GAMMA=.5\0OPTIONS=a=1,b=c(d=2)")
    ),
    "lines": Parser(_from_file(read_lines), (), _texts('{"event": "round", "round": 1}\n{"event": "fini')),
}
