"""The log of a run, sent to TensorBoard, Weights & Biases or Trackio by accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from harness.extras import require
from harness.training.config import TrainConfig
from harness.training.runs.overrides import flat


class Track(Protocol):
    """Takes an entry of metrics.jsonl."""

    def __call__(self, entry: dict[str, Any]) -> None: ...


def check_trackers(report_to: tuple[str, ...]) -> None:
    """Raise HarnessError when a tracker's package is not installed."""
    for name in report_to:
        for package in ("accelerate", name):
            require(package, f"tracking.report_to: {name!r}")


@contextmanager
def trackers(config: TrainConfig, start: int = 0) -> Iterator[Track]:
    """Open the trackers of a run; the block gets a function that sends an entry to all of them.

    ``start`` is the step after which the run resumes. Local trackers write into
    ``<output_dir>/tracking``. They are closed however the run ends.
    """
    names = config.tracking.report_to
    check_trackers(names)
    if not names:
        yield lambda _: None
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

    folder = Path(config.output_dir)
    opened = [
        _open(LOGGER_TYPE_TO_CLASS[str(name)], config, start)
        for name in filter_trackers(list(names), folder)
    ]
    plain = (int, float, str)  # what all trackers take
    settings = {
        name: value if isinstance(value, plain) else str(value)
        for name, value in flat(config.as_dict()).items()
    }
    try:
        for tracker in opened:
            tracker.start()
            tracker.store_init_configuration(settings)

        def track(entry: dict[str, Any]) -> None:
            if "step" not in entry:
                return
            logged = {key: value for key, value in entry.items() if key not in ("kind", "step")}
            values = flat(logged, f"{entry['kind']}/")
            numbers = {
                key: value for key, value in values.items() if isinstance(value, int | float)
            }
            for tracker in opened:
                tracker.log(numbers, step=int(entry["step"]))

        yield track
    finally:
        for tracker in opened:
            tracker.finish()


def _open(kind: Any, config: TrainConfig, start: int) -> Any:
    """A tracker that is not started yet. TensorBoard drops what was logged after ``start``."""
    folder = Path(config.output_dir)
    name = config.tracking.run_name or folder.resolve().name
    if kind.name == "tensorboard":
        return kind(name, folder / "tracking", **({"purge_step": start + 1} if start else {}))
    if kind.name == "wandb":
        return kind(config.tracking.project, name=name, dir=str(folder), resume="allow")
    return kind(config.tracking.project, name=name)
