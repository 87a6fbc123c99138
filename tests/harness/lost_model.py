"""Runs in one process whose server has died, and damage to the model files that it left."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostrakon.server.storage.ledger.sqlite import SqliteLedger
from ostrakon.server.storage.model_store import ModelKey, ModelStore, initial_key
from ostrakon.worker.session import Session
from tests.harness.house import D, House, Port, pulls
from tests.harness.scenario import reached

Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero_the_tail(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: -4 * D] + bytes(4 * D))


def flip(position: int) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    return damage


IN_THETA, IN_THE_SUM, IN_THE_HEADER = -1, -4 * D - 1, 9
DAMAGES: dict[str, Damage] = {
    "deleted": Path.unlink,
    "empty": empty,
    "cut": cut,
    "zero tail": zero_the_tail,
    "a bit of theta": flip(IN_THETA),
    "a bit of the header": flip(IN_THE_HEADER),
}


def model_file(folder: Path, round: int) -> Path:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    entry, genesis = ledger.entry(round), ledger.genesis()
    ledger.close()
    assert genesis is not None
    key = initial_key(genesis.theta_0, D) if entry is None else ModelKey(entry.winner, entry.running_sum)
    return ModelStore(folder / "models").path(key)


def winners(folder: Path) -> list[str]:
    ledger = SqliteLedger(folder / "ledger.sqlite")
    found = [entry.winner for entry in ledger.entries()]
    ledger.close()
    return found


async def committed(folder: Path, rounds: int, **settings: Any) -> tuple[Port, list[Session], list[asyncio.Task[Any]]]:
    """A run whose server died after so many rounds; its workers live, and hold its last model."""
    folder.mkdir(exist_ok=True)
    house = House(folder, **({"rounds": 50} | settings))
    sessions = pulls(house)
    parts = [asyncio.create_task(session.take_part()) for session in sessions]
    house.start()
    await reached(
        lambda: house.coordinator.head_round == rounds and all(house.digest in s.rounds.exchange.held for s in sessions)
    )
    await house.stop()
    return house.port, sessions, parts


async def completed(folder: Path, **settings: Any) -> None:
    """A run that has come to its end."""
    house = House(folder, **settings)
    await house.run(*pulls(house))
    await house.stop()
