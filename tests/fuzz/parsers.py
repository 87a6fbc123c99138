"""Whatever reads what somebody else wrote: messages, files, names. Each may refuse in the ways it documents, only."""

import asyncio
import io
import json
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from common.aggregation import rule
from common.aggregation.registry import EXAMPLES
from common.digest import DIGEST_SCHEME, digest
from common.errors import OstrakonError
from common.identity import Credentials, identity_of, parse, read_certificate
from common.model_file import parameters, read_model, write_model
from common.revocation import read_revoked
from common.settings import RunSettings, ServerSettings, TlsFiles, WorkerSettings, read
from common.tasks.registry import task
from common.wire import PROTOCOL, chunks
from deploy.certificates import init, issue
from deploy.launch_settings import new_run
from deploy.launch_settings import parse as parse_words
from deploy.record import read_lines
from protos.ostrakon.v1 import parameter_server_pb2 as pb
from server.admission import check_built_for, check_protocol, known_head
from server.ledger import Entry, Genesis
from server.ledger.entry import CountedVote, Parent
from server.model_store import ModelStore, initial_key
from server.refusal import Refused
from server.uploads import Uploads
from tests.by_hand import random_vector
from worker.attacks import attack_schedule
from worker.testbed.faults import fault_schedule
from worker.transport import CallFailed, receive_models

T = TypeVar("T")
D = 4
RUN = "7f1c6e0a-4f0e-4d6b-9a3e-0f6f3f5f2a11"


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
            if isinstance(refusal, OstrakonError):
                assert str(refusal) and "\n" not in str(refusal), refusal  # one sentence, one line of a log
            return False
        return True


@cache
def _folder() -> Path:
    # Its finalizer deletes it when the process ends.
    _folder.keep = tempfile.TemporaryDirectory()  # type: ignore[attr-defined]
    return Path(_folder.keep.name)  # type: ignore[attr-defined]


def _from_file(read: Callable[[Path], T]) -> Callable[[bytes], T]:
    def from_bytes(raw: bytes) -> T:
        path = _folder() / "file"
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


def framed(parts: Iterable[Message]) -> bytes:
    raw = (part.SerializeToString() for part in parts)
    return b"".join(len(part).to_bytes(2, "little") + part for part in raw)


async def _unframed(kind: type[Message], raw: bytes) -> AsyncIterator[Any]:
    while raw:
        end = 2 + int.from_bytes(raw[:2], "little")
        yield kind.FromString(raw[2:end])
        raw = raw[end:]


def _join(raw: bytes) -> None:
    request = pb.JoinRequest.FromString(raw)
    check_protocol(request.stamp, RUN, run_may_be_empty=True)
    check_built_for(request, "linear", D)
    known_head(request)


def _upload(raw: bytes) -> None:
    memory = np.full(D + 2, 7, dtype=np.float32)
    row = memory[1:-1]

    async def receive() -> str:
        uploads = Uploads(1, 10.0, 1.0)
        parts = _unframed(pb.MomentumPart, raw)
        first = await uploads.header(parts)
        await uploads.receive("a", parts, row, first)
        return first.header.digest

    try:
        announced = _run(receive())
        assert np.isfinite(row).all() and digest(row) == announced
    finally:
        assert memory[0] == memory[-1] == 7


def _models(raw: bytes) -> None:
    models = _run(receive_models(_unframed(pb.ModelPart, raw)))
    for name, vector in models.vectors.items():
        assert digest(vector) == name


def _json(read: Callable[[str], object], example: Callable[[], str]) -> Parser:
    """The bytes are JSON; or, after a 0, up to 8 pairs: which value of the example is replaced, by what."""

    def from_bytes(raw: bytes) -> object:
        if raw[:1] != b"\0":
            return read(raw.decode("utf-8", "surrogateescape"))
        values = json.loads(example())
        for at, what in zip(raw[1:17:2], raw[2:18:2], strict=False):
            places = list(_places(values))
            container, key = places[at % len(places)]
            container[key] = json.loads(_VALUES[what % len(_VALUES)])
        return read(json.dumps(values))

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


def _genesis(text: str) -> None:
    genesis = Genesis.from_json(text)
    assert Genesis.from_json(genesis.to_json()).hash == genesis.hash


def _entry(text: str) -> None:
    entry = Entry.from_json(text)
    assert Entry.from_json(entry.to_json()).hash == entry.hash


def _model(path: Path) -> None:
    model = read_model(path)
    assert model.theta.shape == (parameters(model.layout),) and np.isfinite(model.theta).all()


def _stored(raw: bytes) -> None:
    theta = random_vector(D, 1)
    store, key = ModelStore(_folder() / "models"), initial_key(digest(theta), D)
    store.path(key).write_bytes(raw)
    for found in (store.theta(key.digest), store.running_sum(key)):
        assert found is None or found.shape == (D,)
    assert digest(store.read(key).theta) == key.digest


def _identity(text: str) -> None:
    assert parse(text).urn == text


@cache
def tls() -> TlsFiles:
    folder = _folder() / "certificates"
    init(folder)
    issue(folder, "worker", "w00")
    return TlsFiles(ca=folder / "ca.pem", certificate=folder / "worker-w00.pem", key=folder / "worker-w00.key")


_TLS_FILES = ("ca", "certificate", "key")


def _credentials(raw: bytes) -> None:
    which, good = _TLS_FILES[raw[0] % 3] if raw else "key", tls()
    path = _folder() / "tls"
    path.write_bytes(raw[1:])
    Credentials.load(good.model_copy(update={which: path}), "worker")


def _rule(text: str) -> None:
    made = rule(text)
    assert rule(made.name).name == made.name


def _words(text: str) -> None:
    new_run(parse_words(text.split("\0")))


def _texts(*texts: str) -> Callable[[], Iterable[bytes]]:
    return lambda: [text.encode() for text in texts]


def _uploads_by_example() -> list[bytes]:
    vector = random_vector(D, 1)
    stamp = pb.Stamp(protocol=PROTOCOL, run=RUN, term=3, round=9)
    header = pb.MomentumHeader(base="0" * 64, parameters=D, session="s", digest=digest(vector), loss=1.5)
    data = vector.tobytes()
    halves = [pb.Chunk(offset=0, data=data[:8]), pb.Chunk(offset=8, data=data[8:])]
    return [
        framed([pb.MomentumPart(stamp=stamp, header=header), *(pb.MomentumPart(stamp=stamp, chunk=c) for c in cut)])
        for cut in (list(chunks(vector)), halves)
    ]


def _models_by_example() -> list[bytes]:
    one, other = random_vector(D, 1), random_vector(D, 2)
    names = [digest(one), digest(other)]
    stamp = pb.Stamp(protocol=PROTOCOL, run=RUN, term=3, round=9)
    held = pb.ModelHeader(digests=names, parameters=D)
    sent = pb.ModelHeader(digests=names, follow=names, parameters=D)
    bodies = [pb.ModelPart(stamp=stamp, chunk=chunk) for vector in (one, other) for chunk in chunks(vector)]
    return [
        framed([pb.ModelPart(stamp=stamp, header=held)]),
        framed([pb.ModelPart(stamp=stamp, header=sent), *bodies]),
    ]


def _joins_by_example() -> list[bytes]:
    stamp = pb.Stamp(protocol=PROTOCOL, run=RUN, term=3, round=9)
    built = {"session": "s", "task": "linear", "parameters": D, "digest_scheme": DIGEST_SCHEME}
    head = pb.Head(round=8, hash="0" * 64)
    return [
        pb.JoinRequest(stamp=pb.Stamp(protocol=PROTOCOL), **built).SerializeToString(),
        pb.JoinRequest(stamp=stamp, head=head, holds=["0" * 64], **built).SerializeToString(),
    ]


def _genesis_by_example() -> str:
    parent, layout = Parent(RUN, 3, "0"), (("w", (2, 2)),)
    return Genesis(RUN, {"f": 1, "rule": "Mean2P"}, D, "0" * 64, "2026-01-01", layout, parent).to_json()


def _entry_by_example() -> str:
    vote = CountedVote("a", "inner", 0.5, float("nan"))
    return Entry(
        *(1, 2, "base", "inner", "outer", "inner", "inner", (vote,), ("a", "b"), ("c",), {"c": "late"}),
        *({"c": {"not finite": 2}}, True, 0.5, "sum", "previous", ("d",)),
    ).to_json()


def _model_by_example() -> list[bytes]:
    path = _folder() / "model.safetensors"
    write_model(path, random_vector(D, 1), (("weight", (1, 3)), ("bias", (1,))), {"task": "linear"})
    return [path.read_bytes()]


def _stored_by_example() -> list[bytes]:
    store = ModelStore(_folder() / "models")
    return [store.path(store.write(random_vector(D, 1), None)).read_bytes()]


def _data_by_example() -> list[bytes]:
    file = io.BytesIO()
    images = np.arange(IMAGES * SIDE * SIDE, dtype=np.uint32).astype(np.uint8).reshape(IMAGES, SIDE, SIDE)
    np.savez_compressed(file, x=images, y=np.arange(IMAGES) % 62)
    return [file.getvalue()]


def _arrays(raw: bytes) -> None:
    # The headers of x and y; around them what a mutation would break and never mend: lengths and check sums.
    path = _folder() / "arrays.npz"
    with zipfile.ZipFile(path, "w") as file:
        for name, header in zip("xy", raw.split(b"\0", 1), strict=False):
            length = len(header).to_bytes(2, "little")
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + length + header + bytes(IMAGES * SIDE * SIDE))
    task("femnist", path).test_data(1)


def _arrays_by_example() -> list[bytes]:
    x, y = (f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode() for kind, shape in _SHAPES)
    return [x + b"\0" + y]


def _credentials_by_example() -> list[bytes]:
    return [bytes([number]) + getattr(tls(), name).read_bytes() for number, name in enumerate(_TLS_FILES)]


IMAGES, SIDE = 310, 28  # five of each class
_SHAPES = (("|u1", (IMAGES, SIDE, SIDE)), ("|u1", (IMAGES,)))

USER = (OstrakonError,)
SAN = "x509_subject_alternative_name"
_TLS = '[tls]\nca = "ca.pem"\ncertificate = "me.pem"\nkey = "me.key"\n'
SERVER = (
    'task = "linear"\nroster = ["a", "b", "c"]\nf = 1\ngamma = 0.5\nrounds = 5\nrule = "Mean2P"\n'
    f'directory = "run"\ninitial = "initial.safetensors"\nlisten = "127.0.0.1:0"\n{_TLS}'
)
WORKER = f'task = "linear"\nserver = "127.0.0.1:7433"\nattack = "SF@0"\nbatch = 8\nbeta = 0.5\nseed = 3\n{_TLS}'
TEAM = (
    'task = "linear"\nworkers = 7\nf = 3\n[[team]]\nattack = "SF"\n'
    '[[team]]\nfault = "silent@2"\nbyzantine_vote = "random"\n'
)

PARSERS: dict[str, Parser] = {
    "join": Parser(_join, (DecodeError, Refused), _joins_by_example),
    "upload": Parser(_upload, (DecodeError, Refused), _uploads_by_example),
    "models": Parser(_models, (DecodeError, CallFailed), _models_by_example),
    "genesis": _json(_genesis, _genesis_by_example),
    "entry": _json(_entry, _entry_by_example),
    "model-file": Parser(_from_file(_model), USER, _model_by_example),
    "stored-model": Parser(_stored, USER, _stored_by_example),
    "data-file": Parser(_from_file(lambda path: task("femnist", path).test_data(1)), USER, _data_by_example),
    "data-arrays": Parser(_arrays, USER, _arrays_by_example),
    "identity": Parser(_from_text(_identity), USER, _texts("urn:ostrakon:worker:w00", "urn:ostrakon:server:a.b-c_d")),
    "peer": Parser(lambda raw: identity_of({SAN: raw.split(b"\0")}), (), _texts("w00\0urn:ostrakon:worker:w00")),
    "certificate": Parser(_from_file(read_certificate), USER, lambda: [tls().certificate.read_bytes()]),
    "credentials": Parser(_credentials, USER, _credentials_by_example),
    "revoked": Parser(_from_file(read_revoked), USER, _texts("# shut out\n\n urn:ostrakon:worker:w00\n")),
    "rule": Parser(_from_text(_rule), USER, _texts("Mean2P", *EXAMPLES, "Bucketing(2)+NNM+GM(iterations=3)")),
    "attack": Parser(_from_text(attack_schedule), USER, _texts("SF@0,Omn@200", "SF(scale=1e3),none@7,LF@9")),
    "fault": Parser(_from_text(fault_schedule), USER, _texts("silent@20,none@40", "slow(seconds=0.5)")),
    "server-settings": Parser(_from_file(partial(read, ServerSettings)), USER, _texts(SERVER)),
    "worker-settings": Parser(_from_file(partial(read, WorkerSettings)), USER, _texts(WORKER)),
    "run-settings": Parser(_from_file(partial(read, RunSettings)), USER, _texts(TEAM)),
    "words": Parser(_from_text(_words), USER, _texts("WORKERS=7\0F=3\0rule=Avg", "RUN=a\0GAMMA=.5\0PORT=7433")),
    "lines": Parser(_from_file(read_lines), (), _texts('{"event": "round", "round": 1}\n{"event": "fini')),
}
