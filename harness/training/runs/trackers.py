"""The log of a run, sent to the trackers that its settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from harness.tracking import open_trackers
from harness.training.config import TrainConfig
from harness.training.runs.overrides import flat


class Track(Protocol):
    """Takes an entry of metrics.jsonl."""

    def __call__(self, entry: dict[str, Any]) -> None: ...


@contextmanager
def trackers(config: TrainConfig, start: int = 0) -> Iterator[Track]:
    """Open the trackers of a run; the block gets a function that sends an entry to all of them.

    ``start`` is the step after which the run resumes. Local trackers write into
    ``<output_dir>/tracking``. They are closed however the run ends.
    """
    folder = Path(config.output_dir)
    with open_trackers(
        config.tracking.report_to,
        folder,
        project=config.tracking.project,
        run_name=config.tracking.run_name or folder.resolve().name,
        settings=flat(config.as_dict()),
        start=start,
    ) as log:

        def track(entry: dict[str, Any]) -> None:
            if "step" not in entry:
                return
            logged = {key: value for key, value in entry.items() if key not in ("kind", "step")}
            values = flat(logged, f"{entry['kind']}/")
            numbers = {
                key: value for key, value in values.items() if isinstance(value, int | float)
            }
            log(numbers, step=int(entry["step"]))

        yield track
