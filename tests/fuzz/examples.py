"""What the parsers accept: messages, files and texts to begin from."""

import gzip
import io
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from google.protobuf.message import Message

from ostrakon.common.digest import digest
from ostrakon.common.fixed_part import FixedPart
from ostrakon.common.model_file import write_model
from ostrakon.common.safetensors_file import Tensor
from ostrakon.common.settings import TlsFiles
from ostrakon.common.wire import PROTOCOL, chunks
from ostrakon.deploy.certificates import init, issue
from ostrakon.server.storage.ledger import Entry, Genesis
from ostrakon.server.storage.ledger.entry import CountedVote, Parent
from ostrakon.server.storage.model_store import ModelStore
from ostrakon.v1 import parameter_server_pb2 as pb
from ostrakon.worker.initial import write_initial
from ostrakon.worker.introduction import introduction
from ostrakon.worker.settings import WorkerSettings
from tests.harness.driven_worker import random_vector
from tests.harness.image_files import batch, idx, leaf

D = 4
LAYOUT = (("w", (2, 2)),)
RUN = "7f1c6e0a-4f0e-4d6b-9a3e-0f6f3f5f2a11"
IMAGES, SIDE = 310, 28  # five of each class
_SHAPES = (("|u1", (IMAGES, SIDE, SIDE)), ("|u1", (IMAGES,)))

_TLS = '[tls]\nca = "ca.pem"\ncertificate = "me.pem"\nkey = "me.key"\n'
SERVER = (
    'task = "linear"\nroster = ["a", "b", "c"]\nf = 1\ngamma = 0.5\nrounds = 5\nrule = "Mean2P"\n'
    f'directory = "run"\ninitial = "initial.safetensors"\nlisten = "127.0.0.1:0"\n{_TLS}'
)
WORKER = (
    'task = "linear"\nserver = "127.0.0.1:7433"\nattack = "SF@0"\nbatch = 8\nbeta = 0.5\nseed = 3\n'
    f'{_TLS}[options]\npartition = "by_shards"\nrate = 0.5\n'
)
TEAM = (
    'task = "linear"\nworkers = 7\nf = 3\n[[team]]\nattack = "SF"\n'
    '[[team]]\nfault = "silent@2"\nbyzantine_vote = "random"\n'
)


def folder() -> Path:
    """Where the files of this process lie, until it ends."""
    return Path(_temporary().name)


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def framed(*parts: bytes) -> bytes:
    """Several inputs in one: each behind its length."""
    return b"".join(len(part).to_bytes(2, "little") + part for part in parts)


def frames(raw: bytes) -> Iterator[bytes]:
    """What `framed` put together."""
    while raw:
        end = 2 + int.from_bytes(raw[:2], "little")
        yield raw[2:end]
        raw = raw[end:]


@cache
def tls() -> TlsFiles:
    """The files of a worker; its authority's key lies beside them."""
    authority = folder() / "certificates"
    init(authority)
    return issue(authority, "worker", "w00")


def _sent(*parts: Message) -> bytes:
    return framed(*(part.SerializeToString() for part in parts))


def uploads() -> list[bytes]:
    vector = random_vector(D, 1)
    stamp = pb.Stamp(protocol=PROTOCOL, run=RUN, term=3, round=9)
    header = pb.MomentumHeader(base="0" * 64, parameters=D, session="s", digest=digest(vector), loss=1.5)
    data = vector.tobytes()
    halves = [pb.Chunk(offset=0, data=data[:8]), pb.Chunk(offset=8, data=data[8:])]
    return [
        _sent(pb.MomentumPart(stamp=stamp, header=header), *(pb.MomentumPart(stamp=stamp, chunk=c) for c in cut))
        for cut in (list(chunks(vector)), halves)
    ]


def models() -> list[bytes]:
    one, other = random_vector(D, 1), random_vector(D, 2)
    names = [digest(one), digest(other)]
    stamp = pb.Stamp(protocol=PROTOCOL, run=RUN, term=3, round=9)
    held = pb.ModelHeader(digests=names, parameters=D)
    sent = pb.ModelHeader(digests=names, follow=names, parameters=D)
    first, *others = (chunk for vector in (one, other) for chunk in chunks(vector))
    return [
        _sent(pb.ModelPart(stamp=stamp, header=held)),
        _sent(
            pb.ModelPart(stamp=stamp, header=sent, chunk=first),
            *(pb.ModelPart(stamp=stamp, chunk=chunk) for chunk in others),
        ),
    ]


def joins() -> list[bytes]:
    stamp = pb.Stamp(protocol=PROTOCOL, run=RUN, term=3, round=9)
    built, head = introduction("linear", D), pb.Head(round=8, hash="0" * 64)
    requests = [
        pb.JoinRequest(stamp=pb.Stamp(protocol=PROTOCOL), session="s"),
        pb.JoinRequest(stamp=stamp, session="s", head=head, holds=["0" * 64], data_not_readable="no x.npz"),
    ]
    for request, said in zip(requests, (built, introduction("linear", D, LAYOUT, "0" * 64)), strict=True):
        request.MergeFrom(said)
    return [request.SerializeToString() for request in requests]


def a_genesis() -> Genesis:
    settings = {"f": 1, "rule": "Mean2P", "task": "linear"}
    return Genesis(RUN, settings, D, "0" * 64, "2026-01-01", LAYOUT, Parent(RUN, 3, "0"), "0" * 64)


def genesis() -> str:
    return a_genesis().to_json()


def entry() -> str:
    vote = CountedVote("a", "inner", 0.5, float("nan"))
    return Entry(
        *(1, 2, "base", "inner", "outer", "inner", "inner", (vote,), ("a", "b"), ("c",), {"c": "late"}),
        *({"c": {"not finite": 2}}, True, 0.5, "sum", "previous", ("d",)),
    ).to_json()


def model_file() -> list[bytes]:
    path = folder() / "model.safetensors"
    fixed = FixedPart({"again": "bias"}, (Tensor("steps", "I64", (1,), [np.ones(1, np.int64)]),))
    write_model(path, random_vector(D, 1), (("weight", (1, 3)), ("bias", (1,))), {"task": "linear"}, fixed)
    return [path.read_bytes()]


def weights() -> list[bytes]:
    path = folder() / "weights.safetensors"
    write_initial(WorkerSettings(task="linear"), path)
    return [path.read_bytes()]


def stored_model() -> list[bytes]:
    store = ModelStore(folder() / "models")
    return [store.path(store.write(random_vector(D, 1), None)).read_bytes()]


def data_file() -> list[bytes]:
    file = io.BytesIO()
    images = np.arange(IMAGES * SIDE * SIDE, dtype=np.uint32).astype(np.uint8).reshape(IMAGES, SIDE, SIDE)
    np.savez_compressed(file, x=images, y=np.arange(IMAGES) % 62)
    return [file.getvalue()]


def leaf_file() -> list[bytes]:
    images = np.arange(2 * SIDE * SIDE, dtype=np.uint32).astype(np.uint8).reshape(2, SIDE, SIDE) & 1
    return [leaf({"a": (images[:1], [3]), "b": (images[1:], [4])}).encode()]


def idx_file() -> list[bytes]:
    """Of three images."""
    images = np.arange(3 * SIDE * SIDE, dtype=np.uint32).astype(np.uint8).reshape(3, SIDE, SIDE)
    return [idx(images), gzip.compress(idx(images), mtime=0)]


def cifar_batch() -> list[bytes]:
    return [batch(np.arange(3072, dtype=np.uint32).astype(np.uint8).reshape(1, 32, 32, 3), [3])]


def data_arrays() -> list[bytes]:
    """The headers of x and y, with a 0 between them."""
    x, y = (f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode() for kind, shape in _SHAPES)
    return [x + b"\0" + y]


def certificate() -> list[bytes]:
    """A worker's."""
    return [tls().certificate.read_bytes()]


def credentials() -> list[bytes]:
    files = tls()
    return [framed(*(path.read_bytes() for path in (files.ca, files.certificate, files.key)))]


def authority() -> list[bytes]:
    """An authority's, and those of a server that has a certificate from it."""
    files = issue(tls().ca.parent, "server", "s")
    paths = (files.ca, files.ca.with_name("ca.key"), files.certificate, files.key)
    return [framed(*(path.read_bytes() for path in paths))]
