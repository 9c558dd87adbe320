"""A run's ``metrics.jsonl``: one line a step and a checkpoint, whole after any end of the process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import HarnessError
from harness.files import FREE_SPACE, write_text

METRICS_FILE = "metrics.jsonl"


def read_entries(run: Path) -> list[dict[str, Any]]:
    """The whole entries of a run, oldest first. A last line that was cut off is not one."""
    path = run / METRICS_FILE
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line end was cut off
    return [json.loads(line) for line in lines]


def measured_checkpoints(run: Path) -> list[dict[str, Any]]:
    """The entries of the checkpoints that were measured, oldest first."""
    return [entry for entry in read_entries(run) if entry["kind"] == "checkpoint"]


class MetricsLog:
    """Appends entries. What was logged after step ``after`` belongs to a part that will be trained again and is dropped."""

    def __init__(self, run: Path, after: int) -> None:
        self.path = run / METRICS_FILE
        self.entries = (
            [
                entry
                for entry in read_entries(run)
                if entry["step"] <= after and entry["kind"] != "stopped"
            ]
            if after
            else []
        )
        try:
            write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in self.entries))
            self._stream = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        """The entries of the checkpoints that were measured, oldest first."""
        return [entry for entry in self.entries if entry["kind"] == "checkpoint"]

    def write(self, entry: dict[str, Any]) -> None:
        """Append one entry and hand it to the kernel: only a power cut can still lose it."""
        try:
            self._stream.write(json.dumps(entry) + "\n")
            self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        self.entries.append(entry)

    def sync(self) -> None:
        """Force the entries to the disk: before a checkpoint that vouches for them."""
        os.fsync(self._stream.fileno())

    def _unwritable(self, error: OSError) -> HarnessError:
        return HarnessError(
            f"cannot write the run's log: {error.strerror}", where=str(self.path), hint=FREE_SPACE
        )
