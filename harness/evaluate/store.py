"""Results on disk: one SQLite file a run, each result at an address of its own, so a run goes on where it stopped.

An address is the digest of all that decides the result (work.py); its parts stand in tables beside it, to be asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.evaluate.schema import connect, told, transaction

if TYPE_CHECKING:
    from harness.evaluate.work import Work
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.db.close()

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that have no result yet."""
        wanted = set(keys)
        return wanted - {key for (key,) in self.select("SELECT key FROM cell WHERE key IN (SELECT value FROM json_each(?))", [json.dumps(sorted(wanted))])}

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """The payloads of those of the keys that are there."""
        found = self.select("SELECT key, payload FROM cell WHERE key IN (SELECT value FROM json_each(?))", [json.dumps(sorted(set(keys)))])
        return {key: json.loads(payload) for key, payload in found}

    def put(self, batch: Sequence[tuple[Work, Any]]) -> None:
        """Add one batch of results and give up their claims: all of it or nothing. What is there already stays."""
        with self.writing():
            self.db.executemany(
                "INSERT OR IGNORE INTO cell (key, engine, format, item, settings, probe, share, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(*self._place(work), json.dumps(payload)) for work, payload in batch],
            )
            self.db.executemany("DELETE FROM claim WHERE key = ?", [(work.key,) for work, _ in batch])

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
        from harness.evaluate.cases import case_digest, kind_of

        with self.writing():
            engine = self._engine(json.dumps(dict(fingerprint), sort_keys=True))
            self.db.execute("DELETE FROM run WHERE label = ? AND engine = ?", (label, engine))
            inserted = self.db.execute(
                "INSERT INTO run (label, engine, name, native, settings) VALUES (?, ?, ?, ?, ?)",
                (label, engine, name, native or "", json.dumps(dict(settings))),
            )
            run = inserted.lastrowid
            format_ids = {format.id: self._id("format", name=format.id, digest=format.digest) for format in formats}
            item_ids = {case.id: self._id("item", name=case.id, digest=case_digest(case), kind=kind_of(case)) for case in cases}
            rows = ((run, self._id("metric", name=s.metric), format_ids[s.format], item_ids[s.case], s.value, s.why) for s in scores)
            self.db.executemany("INSERT INTO score VALUES (?, ?, ?, ?, ?, ?)", list(rows))

    def select(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a question."""
        with told(self.path):
            return self.db.execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction for writing. Ids that it made are forgotten when it fails."""
        known = dict(self._ids)
        try:
            with told(self.path), transaction(self.db):
                yield
        except BaseException:
            self._ids = known
            raise

    def _place(self, work: Work) -> tuple[str, int, int, int, int, str, float]:
        return (
            work.key,
            self._engine(work.engine),
            self._id("format", name=work.format, digest=work.format_digest),
            self._id("item", name=work.case, digest=work.case_digest, kind=work.kind),
            self._id("settings", facts=work.settings),
            work.probe,
            work.share,
        )

    def _engine(self, facts: str) -> int:
        parts = json.loads(facts)
        return self._id("engine", facts=facts, **{name: parts.get(name, "") for name in ENGINE_PARTS})

    def _id(self, table: str, **values: str) -> int:
        """The id of a row, which is made when it is not there. Table and column names are our own."""
        place = (table, tuple(values.values()))
        if place not in self._ids:
            names = ", ".join(values)
            marks = ", ".join("?" * len(values))
            self.db.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", place[1])  # noqa: S608
            unique = {name: value for name, value in values.items() if name in ("facts", "name", "digest")}
            where = " AND ".join(f"{name} = ?" for name in unique)
            self._ids[place] = self.db.execute(f"SELECT id FROM {table} WHERE {where}", list(unique.values())).fetchone()[0]  # noqa: S608
        return self._ids[place]
