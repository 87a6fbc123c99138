"""What reads bytes that somebody else wrote refuses them in the ways it documents. `make soak` looks much further."""

import base64
import json
import random
from collections.abc import Callable

import pytest

from ostrakon.v1 import parameter_server_pb2 as pb
from tests.fuzz.examples import framed, tls
from tests.fuzz.mutation import bend
from tests.fuzz.parsers import PARSERS

MUTANTS = 200
DEEP = b"[" * 100_000


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_what_is_right_and_refuses_the_rest_as_it_says(name: str) -> None:
    parser, rng = PARSERS[name], random.Random(name)
    examples = list(parser.examples())
    assert all(parser.check(example) for example in examples)
    for _ in range(MUTANTS):
        raw = rng.choice(examples)
        for _ in range(rng.choice((1, 1, 2, 4))):
            raw = bend(raw, rng, examples)
        try:
            parser.check(raw)
        except Exception as error:
            error.add_note(f"{name}: {raw!r}")
            raise


def certificate_of_version_11() -> bytes:
    lines = tls().certificate.read_text().splitlines()
    der = base64.b64decode("".join(lines[1:-1]))
    changed = base64.encodebytes(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x0a", 1))
    return f"{lines[0]}\n{changed.decode()}{lines[-1]}\n".encode()


def models_of(parameters: int) -> Callable[[], bytes]:
    header = pb.ModelHeader(digests=["0" * 64], follow=["0" * 64], parameters=parameters)
    return lambda: framed(pb.ModelPart(header=header).SerializeToString())


def model_laid_out(layout: str) -> Callable[[], bytes]:
    header = json.dumps({"__metadata__": {"layout": layout}}).encode()
    return lambda: len(header).to_bytes(8, "little") + header


def model_too_large() -> bytes:
    """The tensors are those of its layout, but not their shapes."""
    metadata = {"layout": '[["w", [1099511627776, 1024]]]'}
    header = {"__metadata__": metadata, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


def genesis_with_a_nan() -> bytes:
    return example("genesis").replace(b'"f":1', b'"f":NaN')


def entry_in_other_words() -> bytes:
    return example("entry").replace(b'"thin":true', b'"thin":"yes"')


def example(name: str) -> bytes:
    return next(iter(PARSERS[name].examples()))


# By the fuzzer, and some beside what it found.
FOUND: list[tuple[str, bytes | Callable[[], bytes]]] = [
    ("attack", b"SF@0,Om\n2@0"),
    ("words", b"RU\x7f\nN=1"),
    ("server-settings", b'"a\\nb" = 1'),
    ("certificate", certificate_of_version_11),
    ("authority", lambda: framed(certificate_of_version_11())),
    ("data-arrays", b"{'descr': '|u1', 'fortran_order': (\0"),
    ("data-arrays", b"x" * 20_000 + b"\0"),  # numpy's own sentence goes on with advice to unpickle it
    ("models", models_of(2**63)),
    ("models", models_of(2**60)),
    ("model-file", model_laid_out('[["w", [1e999]]]')),
    ("model-file", model_laid_out(DEEP.decode())),
    ("model-file", model_too_large),
    ("genesis", b'{"layout": [["w", [1e999]]]}'),
    ("genesis", DEEP),
    ("genesis", genesis_with_a_nan),
    ("entry", entry_in_other_words),
    ("entry", b'{"x\\ny": 1}'),
    ("entry", b'{"seconds": ' + b"9" * 400 + b"}"),
    ("entry", DEEP),
]


@pytest.mark.parametrize(("name", "raw"), FOUND, ids=[name for name, _ in FOUND])
def test_what_was_not_refused_once_is_refused(name: str, raw: bytes | Callable[[], bytes]) -> None:
    assert not PARSERS[name].check(raw() if callable(raw) else raw)


def test_a_line_that_is_too_deep_is_left_out() -> None:
    assert PARSERS["lines"].check(DEEP)
