"""Claims that divide the missing requests among evaluators that share a results file.

An evaluator claims requests before it computes them, and records every few seconds that it is
alive. When it is killed, its claims become free: on the same machine as soon as another evaluator
looks, elsewhere once another has seen no new record of it for as long as the lease. Only the
other's own clock measures that: the clocks of two machines need not agree.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness.evaluation.store.results_file import Store

LEASE_S = 30.0
BEAT_S = 5.0
PARTS_PER_EVALUATOR = 2
"""Beside others, claim at most 1 ∕ (this × evaluators) of what is free, so that all end together.

Guided self-scheduling: Polychronopoulos & Kuck 1987, doi:10.1109/TC.1987.5009495.
"""
MIN_CLAIM = 8


@dataclass(frozen=True, slots=True)
class Taken:
    """``mine``: keys for this evaluator to compute, in order. ``stored``: keys with a result."""

    mine: list[str]
    stored: set[str]


class Claims:
    """This process's claims on a store, for as long as the context lasts."""

    def __init__(self, store: Store, *, lease: float = LEASE_S, beat: float = BEAT_S) -> None:
        self.store = store
        self.id = uuid.uuid4().hex
        self.lease = lease
        self._beat = beat
        self._seen: dict[str, tuple[float, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True, name="heartbeat")

    def __enter__(self) -> Claims:
        with self.store.writing():
            self._alive()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        with suppress(sqlite3.Error):  # the lease ends it anyway
            self.store.db.execute("DELETE FROM evaluator WHERE id = ?", (self.id,))

    def take(self, keys: Sequence[str], most: int) -> Taken:
        """Claim up to ``most`` keys without a result that no living evaluator has claimed."""
        db = self.store.db
        with self.store.writing():
            self._alive()
            self._remove_dead()
            wanted = [json.dumps(keys)]
            stored, claimed = (
                {
                    key
                    for (key,) in db.execute(
                        f"SELECT value FROM json_each(?) WHERE value IN (SELECT key FROM {table})",  # noqa: S608  # ours
                        wanted,
                    )
                }
                for table in ("cell", "claim")
            )
            available = [key for key in keys if key not in stored and key not in claimed]
            others = db.execute("SELECT count(*) FROM evaluator").fetchone()[0] - 1
            if others:
                most = min(
                    most, max(MIN_CLAIM, -(-len(available) // (PARTS_PER_EVALUATOR * (others + 1))))
                )
            mine = available[:most]
            db.executemany("INSERT INTO claim VALUES (?, ?)", [(key, self.id) for key in mine])
        return Taken(mine, stored)

    def release(self, keys: Sequence[str]) -> None:
        """Give up claims."""
        with self.store.writing():
            self.store.db.executemany(
                "DELETE FROM claim WHERE key = ? AND evaluator = ?",
                [(key, self.id) for key in keys],
            )

    def _alive(self) -> None:
        _beat(self.store.db, self.id)

    def _remove_dead(self) -> None:
        """Delete evaluators whose process or lease has ended, with their claims."""
        here = machine()
        dead = [
            (evaluator,)
            for evaluator, where, pid, beat in self.store.db.execute(
                "SELECT id, machine, pid, heartbeat FROM evaluator WHERE id != ?", (self.id,)
            ).fetchall()
            if self._silent(evaluator, beat) or (where == here and _gone(pid))
        ]
        self.store.db.executemany("DELETE FROM evaluator WHERE id = ?", dead)

    def _silent(self, evaluator: str, beat: float) -> bool:
        """Whether its record has not changed for as long as the lease, since it was first seen."""
        now = time.monotonic()
        last, since = self._seen.get(evaluator, (None, now))
        if last != beat:
            since = now
        self._seen[evaluator] = (beat, since)
        return now - since > self.lease

    def _live(self) -> None:
        """Beat from an own thread and connection, since a batch may take longer than the lease."""
        place = f"{self.store.path.resolve().as_uri()}?mode=rw"  # never a new file
        with (
            suppress(sqlite3.Error),  # the file was removed: the next result reports it
            closing(
                sqlite3.connect(place, uri=True, timeout=self._beat, isolation_level=None)
            ) as db,
        ):
            while not self._over.wait(self._beat):
                with suppress(sqlite3.OperationalError):  # busy: the lease is several beats long
                    _beat(db, self.id)


def _beat(db: sqlite3.Connection, evaluator: str) -> None:
    db.execute(
        "INSERT INTO evaluator VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET heartbeat = excluded.heartbeat",
        (evaluator, machine(), os.getpid(), time.time()),
    )


def machine() -> str:
    """The host, and on Linux the namespace of process ids: containers may share a host's name."""
    namespace = Path("/proc/self/ns/pid")
    return f"{platform.node()} {namespace.readlink() if namespace.exists() else ''}".strip()


def _gone(pid: int) -> bool:
    """Whether no process has this id here. A reused id only means waiting for the lease."""
    if os.name != "posix":
        return False  # os.kill would end the process on Windows, so wait for the lease
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
