"""The database behind a results file: its tables, how it is opened, and one error if it fails."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError

SCHEMA_VERSION = 2
APPLICATION_ID = 0x666D7470
"""``fmtp`` in the file's header, so that no other program's database is taken for results."""
BUSY_S = 60.0
_ANOTHER = "choose another --out, or move the file away"

_SCHEMA = (
    # the model and its backend: one row for each fingerprint, which ``facts`` holds whole
    """CREATE TABLE engine (
      id INTEGER PRIMARY KEY, model TEXT NOT NULL, adapter TEXT NOT NULL, tokenizer TEXT NOT NULL,
      dtype TEXT NOT NULL, backend TEXT NOT NULL, device TEXT NOT NULL,
      facts TEXT NOT NULL UNIQUE)""",
    """CREATE TABLE format (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, UNIQUE (name, digest))""",
    """CREATE TABLE item (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
      UNIQUE (name, digest))""",
    "CREATE TABLE settings (id INTEGER PRIMARY KEY, facts TEXT NOT NULL UNIQUE)",
    # a request with its result: ``probe`` is its type, ``share`` its prefix fraction
    """CREATE TABLE cell (
      id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, engine INTEGER NOT NULL REFERENCES engine,
      format INTEGER NOT NULL REFERENCES format, item INTEGER NOT NULL REFERENCES item,
      settings INTEGER NOT NULL REFERENCES settings, probe TEXT NOT NULL, share REAL NOT NULL,
      payload TEXT NOT NULL)""",
    "CREATE INDEX cell_place ON cell (format, item, probe)",
    # which evaluators are alive, and what they have claimed
    """CREATE TABLE evaluator (
      id TEXT PRIMARY KEY, machine TEXT NOT NULL, pid INTEGER NOT NULL,
      heartbeat REAL NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE claim (
      key TEXT PRIMARY KEY,
      evaluator TEXT NOT NULL REFERENCES evaluator ON DELETE CASCADE) WITHOUT ROWID""",
    "CREATE INDEX claim_evaluator ON claim (evaluator)",
    # the scores of the last evaluation under each label
    """CREATE TABLE run (
      id INTEGER PRIMARY KEY, label TEXT NOT NULL, engine INTEGER NOT NULL REFERENCES engine,
      name TEXT NOT NULL, native TEXT NOT NULL, settings TEXT NOT NULL, UNIQUE (label, engine))""",
    "CREATE TABLE metric (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE score (
      run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
      metric INTEGER NOT NULL REFERENCES metric, format INTEGER NOT NULL REFERENCES format,
      item INTEGER NOT NULL REFERENCES item, value REAL, why TEXT NOT NULL,
      PRIMARY KEY (run, metric, format, item)) WITHOUT ROWID""",
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection for writing; a missing file is created.

    Raises HarnessError for a file that cannot be used.
    """
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            _wal(db)
            db.execute("PRAGMA foreign_keys=ON")
            # A killed process loses nothing, a power cut at most the last batches.
            db.execute("PRAGMA synchronous=NORMAL")
            with transaction(db):
                _create_or_check(db, path)
        except BaseException:
            db.close()
            raise
        return db


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection for reading. Raises HarnessError for a missing file and for any other kind."""
    if not path.is_file():
        raise HarnessError(
            "no such file",
            where=str(path),
            hint="harness eval writes results.sqlite into its --out folder",
        )
    with file_errors(path):
        db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
        )
        try:
            _check(db, path, reading=True)
        except BaseException:
            db.close()
            raise
        return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, with no other writer between the reads and the writes."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn a failure of the file (no space, no permission, no database) into a HarnessError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_NOTADB:
            raise HarnessError(
                "not a results file", where=str(path), hint="harness eval writes results.sqlite"
            ) from None
        full = "free some space; " if code == sqlite3.SQLITE_FULL else ""
        raise HarnessError(
            f"the results file fails: {error}",
            where=str(path),
            hint=f"{full}what was stored stays, and another --out can be given",
        ) from None
    except OSError as error:
        full = "free some space" if error.errno == errno.ENOSPC else "choose another --out"
        raise HarnessError(
            f"cannot write results there: {error.strerror or error}", where=str(path), hint=full
        ) from None


def _wal(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log, waiting for others that do the same, as SQLite does not."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _create_or_check(db: sqlite3.Connection, path: Path) -> None:
    if (
        db.execute("PRAGMA user_version").fetchone()[0]
        or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    ):
        _check(db, path)
        return
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _check(db: sqlite3.Connection, path: Path, *, reading: bool = False) -> None:
    remedy = "harness eval writes results.sqlite" if reading else _ANOTHER
    version = db.execute("PRAGMA user_version").fetchone()[0]
    ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    if ours and version > SCHEMA_VERSION:
        raise HarnessError(
            f"written by a newer version (schema {version}, this one knows {SCHEMA_VERSION})",
            where=str(path),
            hint="upgrade formatproof" if reading else f"upgrade formatproof, or {_ANOTHER}",
        )
    if (
        version == 1
        and db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'result'").fetchone()[0]
    ):
        raise HarnessError(
            "written by an older version (schema 1) that did not record the tokenizer",
            where=str(path),
            hint=remedy,
        )
    if not ours or version != SCHEMA_VERSION:
        raise HarnessError("a database, but no results file", where=str(path), hint=remedy)
