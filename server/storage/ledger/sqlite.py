"""The ledger as one SQLite file on a local disk: WAL, synchronous=FULL, one transaction per commit."""

import hashlib
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ostrakon.common.errors import OstrakonError, readable
from ostrakon.common.run_files import LONGEST_LEDGER
from ostrakon.common.watched_files import WatchedFiles
from ostrakon.server.storage.ledger import Already, Committed, Entry, Fenced, Genesis, Tried, Unknown

_APPLICATION = 0x4F535452  # "OSTR": tells a ledger from any other SQLite database
_BUSY_SECONDS = 10.0
_COPIES = 20  # attempts to read a ledger that a server writes to
_BESIDE = ("-wal", "-shm")  # files that belong to an open database
_SCHEMA = """
CREATE TABLE genesis (id INTEGER PRIMARY KEY CHECK (id = 1), hash TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE terms (term INTEGER PRIMARY KEY, holder TEXT NOT NULL);
CREATE TABLE entries (round INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
"""


class SqliteLedger:
    """The run's ledger; implements `server.storage.ledger.Ledger`.

    Args:
        path: the file, made if it does not exist; ":memory:" for a ledger that nothing survives.
        called: the file's name in sentences for the user, where it is a copy of another.

    Raises:
        OstrakonError: the file is damaged, is no ledger, or cannot be opened for writing; its path is too long.
    """

    def __init__(self, path: Path | str, *, called: Path | None = None) -> None:
        self._path = path
        self._called = called or path
        self._lock = threading.Lock()
        size = len(os.fsencode(os.path.realpath(path)))
        if size > LONGEST_LEDGER:
            raise OstrakonError(
                f"the path of the ledger {readable(self._called)} has {size} bytes: use a folder where it has at most "
                f"{LONGEST_LEDGER}, which SQLite can take"
            )
        with self._readable():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._readable():
                self._prepare()
            self._opened = self._found()
        except BaseException:
            self._connection.close()
            raise

    def genesis(self) -> Genesis | None:
        row = self._row("SELECT hash, body FROM genesis")
        return None if row is None else self._decode_genesis(*row)

    def create(self, genesis: Genesis) -> None:
        with self._readable(), self._transaction() as connection:
            row = connection.execute("SELECT hash, body FROM genesis").fetchone()
            if row is not None:
                raise OstrakonError(
                    f"ledger {self._called} holds run {self._decode_genesis(*row).run}: "
                    "resume that run, or give a new one another directory"
                )
            connection.execute("INSERT INTO genesis VALUES (1, ?, ?)", (genesis.hash, genesis.to_json()))

    def draw_term(self, holder: str) -> int:
        with self._readable(), self._transaction() as connection:
            term = _largest_term(connection) + 1
            connection.execute("INSERT INTO terms VALUES (?, ?)", (term, holder))
        return term

    def terms(self) -> dict[int, str]:
        with self._readable(), self._lock:
            return dict(self._connection.execute("SELECT term, holder FROM terms ORDER BY term").fetchall())

    def head(self) -> Entry | None:
        return self._entry("SELECT round, hash, body FROM entries ORDER BY round DESC LIMIT 1")

    def entry(self, round: int) -> Entry | None:
        return self._entry("SELECT round, hash, body FROM entries WHERE round = ?", round)

    def entries(self) -> Iterator[Entry]:
        # One look-up an entry: no cursor stays open across a yield, and memory stays that of one entry.
        following = "SELECT round, hash, body FROM entries WHERE round > ? ORDER BY round LIMIT 1"
        entry = self._entry(following, 0)
        while entry is not None:
            yield entry
            entry = self._entry(following, entry.round)

    def try_commit(self, entry: Entry) -> Tried:
        try:
            with self._transaction() as connection:
                largest = _largest_term(connection)
                if entry.term != largest:
                    return Fenced(largest)
                there = connection.execute(
                    "SELECT round, hash, body FROM entries WHERE round = ?", (entry.round,)
                ).fetchone()
                if there is not None:
                    return Already(self._decode_entry(*there))
                self._check_follows(connection, entry)
                connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (entry.round, entry.hash, entry.to_json()))
        except sqlite3.Error as error:
            return Unknown(f"{self._called}: {error}")
        # SQLite goes on writing into a file that was deleted, and nobody would ever find the entry again.
        if self._found() != self._opened:
            raise OstrakonError(
                f"ledger {self._called} was deleted, moved or replaced while this server worked with it: round "
                f"{entry.round} is lost and nobody was told of it. Put the run's folder back from a backup and "
                "start again"
            )
        return Committed()

    def exclusively(self, term: int, work: Callable[[], None]) -> int:
        with self._readable(), self._transaction() as connection:
            largest = _largest_term(connection)
            if largest == term:
                work()
        return largest

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _found(self) -> list[tuple[int, int] | None]:
        """What lies at the ledger's path and beside it, as (device, inode)."""
        if self._path == ":memory:":
            return []
        return [_place(f"{self._path}{end}") for end in ("", *_BESIDE)]

    def _prepare(self) -> None:
        connection = self._connection
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if application == 0 and tables == 0:
                for statement in _SCHEMA.strip().split("\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            elif application != _APPLICATION:
                raise OstrakonError(f"{self._called} is a database of another program, not a ledger: check the path")
        # A file whose end is cut off opens well and fails only where the missing pages are read.
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise self._damaged(found)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors, a full disk among them.
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise OstrakonError(
                    f"ledger {self._called} is held by another process, as by a server that was stopped in the middle "
                    "of a commit: let that process go on, or end it (kill -9), and start again; nothing committed is "
                    "lost"
                ) from None
            raise OstrakonError(
                f"ledger {self._called} cannot be used ({error}): its folder must exist on a local disk, "
                "be writable and have free space"
            ) from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from None

    def _row(self, query: str, *values: int) -> tuple[Any, ...] | None:
        with self._readable(), self._lock:
            row: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
        return row

    def _entry(self, query: str, *values: int) -> Entry | None:
        row = self._row(query, *values)
        return None if row is None else self._decode_entry(*row)

    def _check_follows(self, connection: sqlite3.Connection, entry: Entry) -> None:
        row = connection.execute("SELECT round, hash, body FROM entries ORDER BY round DESC LIMIT 1").fetchone()
        if row is not None:
            head = self._decode_entry(*row)
            expected = (head.round + 1, head.winner, head.hash)
        else:
            row = connection.execute("SELECT hash, body FROM genesis").fetchone()
            if row is None:
                raise ValueError(f"ledger {self._called} has no genesis: create the run before it commits")
            genesis = self._decode_genesis(*row)
            expected = (1, genesis.theta_0, genesis.hash)
        if (entry.round, entry.base, entry.previous) != expected:
            raise ValueError(
                f"entry {entry.round} on base {entry.base}, previous {entry.previous}, does not follow the head: "
                f"expected round, base, previous {expected}"
            )

    def _decode_genesis(self, hash: str, body: str) -> Genesis:
        with self._decoding("the genesis"):
            _check_hash(hash, body)
            return Genesis.from_json(body)

    def _decode_entry(self, round: int, hash: str, body: str) -> Entry:
        with self._decoding(f"entry {round}"):
            _check_hash(hash, body)
            entry = Entry.from_json(body)
            if entry.round != round:
                raise ValueError(f"its row holds round {entry.round}")
            return entry

    @contextmanager
    def _decoding(self, what: str) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise self._damaged(f"{what}: {error}") from None

    def _damaged(self, found: str) -> OstrakonError:
        return OstrakonError(f"ledger {self._called} is damaged ({found}): put the run's folder back from a backup")


@contextmanager
def opened_to_read(path: Path) -> Iterator[SqliteLedger]:
    """A copy of a ledger, to read: SQLite writes even then, and the disk may be read-only, or the files be evidence.

    Raises:
        OstrakonError: the ledger is damaged or cannot be read, or is written to all the time.
    """
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        copy = Path(folder) / path.name
        try:
            _copy(path, copy)
        except OSError as error:
            raise OstrakonError(f"ledger {path} cannot be read ({error}): check its rights and the disk") from None
        ledger = SqliteLedger(copy, called=path)
        try:
            yield ledger
        finally:
            ledger.close()


def _copy(path: Path, copy: Path) -> None:
    """Copy a ledger with what is in its write-ahead log only, as both are at one moment."""
    for _ in range(_COPIES):
        files = WatchedFiles(path, Path(f"{path}{_BESIDE[0]}"))
        for end in ("", _BESIDE[0]):
            Path(f"{copy}{end}").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{end}", f"{copy}{end}")
        if not files.changed():
            return
    raise OstrakonError(f"ledger {path} is written to all the time: end the server that works with it first")


def _place(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Where somebody else opens a new file too, SQLite does not wait for that but says busy at once."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _largest_term(connection: sqlite3.Connection) -> int:
    largest: int = connection.execute("SELECT coalesce(max(term), 0) FROM terms").fetchone()[0]
    return largest


def _check_hash(hash: str, body: str) -> None:
    if hashlib.sha256(str(body).encode()).hexdigest() != hash:
        raise ValueError("its content does not have the hash stored with it")
