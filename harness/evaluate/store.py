"""Results on disk: one SQLite file, addressed by the digest of the work, so a run goes on where it stopped."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import HarnessError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS result (
  key TEXT PRIMARY KEY,
  probe TEXT NOT NULL,
  case_id TEXT NOT NULL,
  format_id TEXT NOT NULL,
  payload TEXT NOT NULL
) WITHOUT ROWID;
"""


class Store:
    """One file of results. Each batch is one transaction; readers and a writer may share the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise HarnessError(
                    f"written by a newer version (schema {version}, this one knows {SCHEMA_VERSION})", where=str(path), hint="upgrade, or choose another --out"
                )
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that have no result yet."""
        wanted = set(keys)
        return wanted - set(self._read(wanted))

    def put(self, rows: Iterable[tuple[str, str, str, str, Any]]) -> None:
        """Add one batch of (key, probe, case, format, payload). All of it or nothing."""
        with self._told(), self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?)",
                [(key, probe, case, format, json.dumps(payload)) for key, probe, case, format, payload in rows],
            )

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """The payloads of those of the keys that are there."""
        return {key: json.loads(payload) for key, payload in self._read(keys).items()}

    def _read(self, keys: Iterable[str]) -> dict[str, str]:
        wanted = list(keys)
        found: dict[str, str] = {}
        with self._told():
            for at in range(0, len(wanted), 500):
                part = wanted[at : at + 500]
                marks = ",".join("?" * len(part))
                found.update(self._db.execute(f"SELECT key, payload FROM result WHERE key IN ({marks})", part).fetchall())  # noqa: S608  # only question marks
        return found

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise HarnessError(
                f"the results file fails: {error}", where=str(self.path), hint="free some space or choose another --out; what was stored stays"
            ) from None
