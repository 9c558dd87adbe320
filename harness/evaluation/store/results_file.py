"""The results file: one SQLite database, each result at its own address, so that a run can resume.

An address (the column ``key``) is the digest of everything that decides the result (requests.py);
tables beside it hold its parts.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.files import OpenedFile

if TYPE_CHECKING:
    from harness.evaluation.requests import PlannedRequest
    from harness.records import Case, Format, Score

ENGINE_PARTS = ("model", "adapter", "tokenizer", "dtype", "backend", "device")


class Store:
    """One file of results. Each batch is one transaction; several processes may share the file.

    ``unscored`` says by key why a request of this process has no usable result; it is not written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unscored: dict[str, str] = {}
        self.db = connect(path)
        self._file = OpenedFile.of(path)
        self._ids: dict[tuple[str, tuple[Any, ...]], int] = {}

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.db.close()

    def missing(self, keys: Iterable[str]) -> set[str]:
        """The keys without a result."""
        wanted = set(keys)
        return wanted - {
            key
            for (key,) in self.select(
                "SELECT key FROM cell WHERE key IN (SELECT value FROM json_each(?))",
                [json.dumps(sorted(wanted))],
            )
        }

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """The payloads of the keys that have one, as JSON."""
        payloads = self.select(
            "SELECT key, payload FROM cell WHERE key IN (SELECT value FROM json_each(?))",
            [json.dumps(sorted(set(keys)))],
        )
        return dict(payloads)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove results, so that they are computed again."""
        with self.writing():
            self.db.executemany("DELETE FROM cell WHERE key = ?", [(key,) for key in keys])

    def put(self, batch: Sequence[tuple[PlannedRequest, Any]]) -> None:
        """Add one batch of results and release their claims, all or nothing.

        A result that is already there stays.
        """
        with self.writing():
            self.db.executemany(
                "INSERT OR IGNORE INTO cell"
                " (key, engine, format, item, settings, probe, share, payload)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (*self._address(request), json.dumps(payload, allow_nan=False))
                    for request, payload in batch
                ],
            )
            self.db.executemany(
                "DELETE FROM claim WHERE key = ?", [(request.key,) for request, _ in batch]
            )

    def put_scores(
        self,
        label: str,
        name: str,
        fingerprint: Mapping[str, str],
        native: str | None,
        settings: Mapping[str, Any],
        scores: Iterable[Score],
        formats: Iterable[Format],
        cases: Iterable[Case],
    ) -> None:
        """Keep an evaluation's scores, in place of those of the last with its label and engine.

        ``name`` is the model's, for people.
        """
        from harness.evaluation.cases.case_files import case_digest, kind_of

        with self.writing():
            engine = self._engine(json.dumps(dict(fingerprint), sort_keys=True))
            self.db.execute("DELETE FROM run WHERE label = ? AND engine = ?", (label, engine))
            inserted = self.db.execute(
                "INSERT INTO run (label, engine, name, native, settings) VALUES (?, ?, ?, ?, ?)",
                (label, engine, name, native or "", json.dumps(dict(settings))),
            )
            run = inserted.lastrowid
            format_ids = {
                one.id: self._id("format", name=one.id, digest=one.digest) for one in formats
            }
            item_ids = {
                case.id: self._id(
                    "item", name=case.id, digest=case_digest(case), kind=kind_of(case)
                )
                for case in cases
            }
            rows = (
                (
                    run,
                    self._id("metric", name=s.metric),
                    format_ids[s.format],
                    item_ids[s.case],
                    s.value,
                    s.why,
                )
                for s in scores
            )
            self.db.executemany("INSERT INTO score VALUES (?, ?, ?, ?, ?, ?)", list(rows))

    def select(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a SELECT statement."""
        with file_errors(self.path):
            return self.db.execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction for writing. If it fails, the ids that it made are forgotten.

        Raises HarnessError when the file was removed: SQLite would write on into nothing.
        """
        self._file.refuse_if_removed("results file")
        known = dict(self._ids)
        try:
            with file_errors(self.path), transaction(self.db):
                yield
        except BaseException:
            self._ids = known
            raise

    def _address(self, request: PlannedRequest) -> tuple[str, int, int, int, int, str, float]:
        return (
            request.key,
            self._engine(request.engine),
            self._id("format", name=request.format, digest=request.format_digest),
            self._id("item", name=request.case, digest=request.case_digest, kind=request.kind),
            self._id("settings", facts=request.settings),
            request.request_type,
            request.prefix_fraction,
        )

    def _engine(self, facts: str) -> int:
        parts = json.loads(facts)
        return self._id(
            "engine", facts=facts, **{name: parts.get(name, "") for name in ENGINE_PARTS}
        )

    def _id(self, table: str, **values: str) -> int:
        """The id of a row, which is added if it is missing. Table and column names are ours."""
        place = (table, tuple(values.values()))
        if place not in self._ids:
            names = ", ".join(values)
            marks = ", ".join("?" * len(values))
            insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})"  # noqa: S608
            self.db.execute(insert, place[1])
            unique = [name for name in values if name in ("facts", "name", "digest")]
            where = " AND ".join(f"{name} = ?" for name in unique)
            select = f"SELECT id FROM {table} WHERE {where}"  # noqa: S608
            row = self.db.execute(select, [values[name] for name in unique]).fetchone()
            self._ids[place] = row[0]
        return self._ids[place]


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
            _check(db, path)
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
    except (sqlite3.Error, OSError) as error:
        raise HarnessError(
            f"the results file fails: {error}",
            where=str(path),
            hint="free some space or choose another --out; what was stored stays",
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


def _check(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    if ours and version > SCHEMA_VERSION:
        raise HarnessError(
            f"written by a newer version (schema {version}, this one knows {SCHEMA_VERSION})",
            where=str(path),
            hint=f"upgrade formatproof, or {_ANOTHER}",
        )
    if (
        version == 1
        and db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'result'").fetchone()[0]
    ):
        raise HarnessError(
            "written by an older version (schema 1) that did not record the tokenizer",
            where=str(path),
            hint=_ANOTHER,
        )
    if not ours or version != SCHEMA_VERSION:
        raise HarnessError("a database, but no results file", where=str(path), hint=_ANOTHER)
