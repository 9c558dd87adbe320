"""The results file: one SQLite database, each result at its own address, so that a run can resume.

An address (the column ``key``) is the digest of everything that decides the result (requests.py);
tables beside it hold its parts (database.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.evaluation.store.database import connect, file_errors, transaction
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
