"""Results on disk: one SQLite file a run, each result at an address of its own, so a run goes on where it stopped.

An address is the digest of all that decides the result (work.py); its parts stand in tables beside it, to be asked for.

The tables of a results file, and how one is opened: created whole, or checked, or refused with what to do instead.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.evaluation.requests import PlannedRequest
    from harness.records import Case, Format, Score

ENGINE_PARTS = ("model", "adapter", "tokenizer", "dtype", "backend", "device")


class Store:
    """One file of results. Each batch is one transaction; several processes may share the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = connect(path)
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
        """Those of the keys that have no result yet."""
        wanted = set(keys)
        return wanted - {
            key
            for (key,) in self.select(
                "SELECT key FROM cell WHERE key IN (SELECT value FROM json_each(?))",
                [json.dumps(sorted(wanted))],
            )
        }

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """The payloads of those of the keys that are there."""
        found = self.select(
            "SELECT key, payload FROM cell WHERE key IN (SELECT value FROM json_each(?))",
            [json.dumps(sorted(set(keys)))],
        )
        return {key: json.loads(payload) for key, payload in found}

    def put(self, batch: Sequence[tuple[PlannedRequest, Any]]) -> None:
        """Add one batch of results and give up their claims: all of it or nothing. What is there already stays."""
        with self.writing():
            self.db.executemany(
                "INSERT OR IGNORE INTO cell (key, engine, format, item, settings, probe, share, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(*self._place(request), json.dumps(payload)) for request, payload in batch],
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
        """Keep the measures of an evaluation, in place of those of the last one with this label and engine. ``name``: the model's, for people."""
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
                format.id: self._id("format", name=format.id, digest=format.digest)
                for format in formats
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
        """The rows of a question."""
        with file_errors(self.path):
            return self.db.execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction for writing. Ids that it made are forgotten when it fails."""
        known = dict(self._ids)
        try:
            with file_errors(self.path), transaction(self.db):
                yield
        except BaseException:
            self._ids = known
            raise

    def _place(self, request: PlannedRequest) -> tuple[str, int, int, int, int, str, float]:
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
        """The id of a row, which is made when it is not there. Table and column names are our own."""
        place = (table, tuple(values.values()))
        if place not in self._ids:
            names = ", ".join(values)
            marks = ", ".join("?" * len(values))
            self.db.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", place[1])  # noqa: S608
            unique = {
                name: value for name, value in values.items() if name in ("facts", "name", "digest")
            }
            where = " AND ".join(f"{name} = ?" for name in unique)
            self._ids[place] = self.db.execute(
                f"SELECT id FROM {table} WHERE {where}", list(unique.values())
            ).fetchone()[0]  # noqa: S608
        return self._ids[place]


SCHEMA_VERSION = 2
APPLICATION_ID = 0x666D7470
"""Says ``fmtp`` in the file's header, so that another program's database is never taken for results."""
BUSY_S = 60.0
_ANOTHER = "choose another --out, or move the file away"

_SCHEMA = (
    # what ran: one row per distinct fingerprint; ``facts`` is the whole of it
    """CREATE TABLE engine (
      id INTEGER PRIMARY KEY, model TEXT NOT NULL, adapter TEXT NOT NULL, tokenizer TEXT NOT NULL, dtype TEXT NOT NULL,
      backend TEXT NOT NULL, device TEXT NOT NULL, facts TEXT NOT NULL UNIQUE)""",
    "CREATE TABLE format (id INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, UNIQUE (name, digest))",
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL, UNIQUE (name, digest))",
    "CREATE TABLE settings (id INTEGER PRIMARY KEY, facts TEXT NOT NULL UNIQUE)",
    # a finished piece of work: its address in parts, and what came of it
    """CREATE TABLE cell (
      id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
      engine INTEGER NOT NULL REFERENCES engine, format INTEGER NOT NULL REFERENCES format, item INTEGER NOT NULL REFERENCES item,
      settings INTEGER NOT NULL REFERENCES settings, probe TEXT NOT NULL, share REAL NOT NULL, payload TEXT NOT NULL)""",
    "CREATE INDEX cell_place ON cell (format, item, probe)",
    # which evaluators are alive, and what they have claimed
    "CREATE TABLE evaluator (id TEXT PRIMARY KEY, machine TEXT NOT NULL, pid INTEGER NOT NULL, heartbeat REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE claim (key TEXT PRIMARY KEY, evaluator TEXT NOT NULL REFERENCES evaluator ON DELETE CASCADE) WITHOUT ROWID",
    "CREATE INDEX claim_evaluator ON claim (evaluator)",
    # what the cells are worth: the measures of the last evaluation under each label
    """CREATE TABLE run (
      id INTEGER PRIMARY KEY, label TEXT NOT NULL, engine INTEGER NOT NULL REFERENCES engine, name TEXT NOT NULL, native TEXT NOT NULL,
      settings TEXT NOT NULL,
      UNIQUE (label, engine))""",
    "CREATE TABLE metric (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE score (
      run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, metric INTEGER NOT NULL REFERENCES metric, format INTEGER NOT NULL REFERENCES format,
      item INTEGER NOT NULL REFERENCES item, value REAL, why TEXT NOT NULL, PRIMARY KEY (run, metric, format, item)) WITHOUT ROWID""",
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection for writing, the file made when it is not there. Raises HarnessError for a file that cannot be used."""
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            _wal(db)
            db.execute("PRAGMA foreign_keys=ON")
            db.execute(
                "PRAGMA synchronous=NORMAL"
            )  # a killed process loses nothing; a power cut at most the last batches
            with transaction(db):
                _create_or_check(db, path)
        except BaseException:
            db.close()
            raise
        return db


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection for reading a file that is there."""
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
    """All of it or nothing, and no other writer between its reads and its writes."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Tell of a file that fails (no space, no right, no database) in one line."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise HarnessError(
            f"the results file fails: {error}",
            where=str(path),
            hint="free some space or choose another --out; what was stored stays",
        ) from None


def _wal(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. SQLite does not wait here for another that does the same, so we do."""
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
    with closing(db.execute("PRAGMA application_id")) as found:
        ours = found.fetchone()[0] == APPLICATION_ID
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
            "written by an older version (schema 1), whose results do not say which tokenizer made them",
            where=str(path),
            hint=_ANOTHER,
        )
    if not ours or version != SCHEMA_VERSION:
        raise HarnessError("a database, but not one of results", where=str(path), hint=_ANOTHER)
