"""Send numbers to TensorBoard, Weights & Biases or Trackio, through accelerate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from harness.extras import require


class Log(Protocol):
    """Sends named numbers of a step to all trackers that are open."""

    def __call__(self, numbers: Mapping[str, float], step: int) -> None: ...


def check_trackers(names: Iterable[str]) -> None:
    """Raise HarnessError when a tracker's package is not installed."""
    for name in names:
        for package in ("accelerate", name):
            require(package, f"--report-to {name}")


@contextmanager
def open_trackers(
    names: Iterable[str],
    folder: Path,
    *,
    project: str,
    run_name: str,
    settings: Mapping[str, Any],
    start: int = 0,
) -> Iterator[Log]:
    """Open trackers of accelerate; the block gets a function that sends numbers to all of them.

    Local ones write into ``folder/tracking``. ``settings`` become the run's configuration, by their
    flat names. ``start``: the step after which a run resumes. They are closed however the block
    ends.
    """
    chosen = list(names)
    check_trackers(chosen)
    opened = _opened(chosen, folder, project, run_name, start) if chosen else []
    plain = (int, float, str)  # what all trackers take
    configuration = {
        name: value if isinstance(value, plain) else str(value) for name, value in settings.items()
    }
    try:
        for tracker in opened:
            tracker.start()
            tracker.store_init_configuration(configuration)

        def log(numbers: Mapping[str, float], step: int) -> None:
            for tracker in opened:
                tracker.log(dict(numbers), step=step)

        yield log
    finally:
        for tracker in opened:
            tracker.finish()


def _opened(names: list[str], folder: Path, project: str, run_name: str, start: int) -> list[Any]:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

    PartialState()  # accelerate's own logging, which its trackers use, fails without
    return [
        _open(LOGGER_TYPE_TO_CLASS[str(name)], folder, project, run_name, start)
        for name in filter_trackers(names, folder)
    ]


def _open(kind: Any, folder: Path, project: str, run_name: str, start: int) -> Any:
    """A tracker that is not started yet. TensorBoard drops what was logged after ``start``."""
    if kind.name == "tensorboard":
        return kind(run_name, folder / "tracking", **({"purge_step": start + 1} if start else {}))
    if kind.name == "wandb":
        return kind(project, name=run_name, dir=str(folder), resume="allow")
    return kind(project, name=run_name)
