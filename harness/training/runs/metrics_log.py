"""The writer of a run's ``metrics.jsonl``: every line is whole, whatever ends the process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import HarnessError
from harness.files import FREE_SPACE, OpenedFile, write_text
from harness.run_file import METRICS_FILE, read_metrics


class MetricsLog:
    """Appends entries to a run's log.

    Entries after step ``after`` are dropped, since those steps will be trained again.
    """

    def __init__(self, run: Path, after: int) -> None:
        self.path = run / METRICS_FILE
        self.entries = [
            entry
            for entry in (read_metrics(run) if after else [])
            if entry["step"] <= after and entry["kind"] != "stopped"
        ]
        text = "".join(json.dumps(entry) + "\n" for entry in self.entries)
        write_text(self.path, text, what="run's log", hint=FREE_SPACE)
        self._stream = self.path.open("a", encoding="utf-8")
        self._file = OpenedFile.of(self.path)

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
        """Append one entry and hand it to the kernel: only a power cut can still lose it.

        Raises HarnessError when the disk is full, and when the run's folder was removed.
        """
        self._file.refuse_if_removed("run's log")
        try:
            self._stream.write(json.dumps(entry) + "\n")
            self._stream.flush()
        except OSError as error:
            raise HarnessError(
                f"cannot write the run's log: {error.strerror}",
                where=str(self.path),
                hint=FREE_SPACE,
            ) from None
        self.entries.append(entry)

    def sync(self) -> None:
        """Force the entries to the disk, before a checkpoint that relies on them."""
        self._file.refuse_if_removed("run's log")
        os.fsync(self._stream.fileno())
