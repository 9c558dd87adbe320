"""When a run has gone far enough: patience on the deciding measure, and limits on recall, drift and held-out NLL.

Pure functions of what was logged at the run's checkpoints, so a resumed run judges as an uninterrupted one: nothing is
counted that metrics.jsonl does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError, nearest
from harness.training.config import EvaluationConfig, StoppingConfig

#: What was logged at one checkpoint.
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StopDecision:
    """What is to be said of the newest checkpoint: why to stop (or ""), and which limits it is over."""

    stop: str = ""
    marks: tuple[str, ...] = ()


def judge(
    checkpoints: Sequence[Entry], stopping: StoppingConfig, evaluation: EvaluationConfig
) -> StopDecision:
    """Judge the newest of a run's checkpoints, which come oldest first.

    Raises HarnessError when a measure that is to be watched was not logged.
    """
    if not checkpoints:
        return StopDecision()
    marks = tuple(
        filter(
            None,
            (
                _recall(checkpoints, stopping),
                _hazard(checkpoints, stopping),
                _rise(checkpoints, stopping),
            ),
        )
    )
    patience = (
        _patience(checkpoints, stopping, evaluation) if stopping.early_stopping_patience else ""
    )
    return StopDecision(patience or (marks[0] if marks and stopping.on_limit == "stop" else ""), marks)


def value_of(entry: Entry, name: str) -> float | None:
    """A measure at a checkpoint, or None where it was not read.

    ``recall`` and ``hazard`` are the highest of their formats and groups; without held-out formats ``nll_seen``
    stands in for ``nll_held_out``, and the like for the hazard.
    """
    if name == "recall":
        return max(entry.get("recall", {}).values(), default=None)
    if name == "hazard":
        return max(
            (
                value
                for key, value in entry.items()
                if key.startswith("hazard_") and isinstance(value, float)
            ),
            default=None,
        )
    found = entry.get(name, entry.get(name.replace("held_out", "seen")))
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _needed(entry: Entry, name: str, asked_by: str) -> float:
    value = value_of(entry, name)
    if value is None:
        logged = {
            key
            for key, found in entry.items()
            if isinstance(found, float) and key not in ("epoch", "sum_lr")
        } | ({"recall"} if entry.get("recall") else set())
        raise HarnessError(
            f"{asked_by}: no measure {name!r} is read at checkpoints",
            hint=nearest(name, logged) or "nothing is measured: see [evaluation]",
        )
    return value


def _patience(
    checkpoints: Sequence[Entry], stopping: StoppingConfig, evaluation: EvaluationConfig
) -> str:
    name = evaluation.metric_for_best_model
    sign = 1.0 if evaluation.greater_is_better else -1.0
    values = [_needed(entry, name, "evaluation.metric_for_best_model") for entry in checkpoints]
    best = 0
    for index, value in enumerate(values):
        if sign * (value - values[best]) > stopping.early_stopping_threshold:
            best = index
    waited = len(values) - 1 - best
    if waited < stopping.early_stopping_patience:
        return ""
    return f"{name} has not been better than {values[best]:.4g} (step {checkpoints[best]['step']}) at {waited} checkpoints"


def _recall(checkpoints: Sequence[Entry], stopping: StoppingConfig) -> str:
    """The excess since step 0, since training rows and twins are not equally likely to begin with; in a branch, which has no step 0, as it stands."""
    if stopping.max_recall_excess is None:
        return ""
    _needed(checkpoints[-1], "recall", "stopping.max_recall_excess")
    null = checkpoints[0].get("recall", {}) if checkpoints[0]["step"] == 0 else {}
    excess = {
        format: value - null.get(format, 0.0) for format, value in checkpoints[-1]["recall"].items()
    }
    worst = max(excess, key=lambda format: excess[format])
    return _over("recall excess", excess[worst], stopping.max_recall_excess, f" in {worst}")


def _hazard(checkpoints: Sequence[Entry], stopping: StoppingConfig) -> str:
    if stopping.max_drift_hazard is None:
        return ""
    return _over(
        "drift hazard",
        _needed(checkpoints[-1], "hazard", "stopping.max_drift_hazard"),
        stopping.max_drift_hazard,
    )


def _rise(checkpoints: Sequence[Entry], stopping: StoppingConfig) -> str:
    if stopping.max_nll_rise is None:
        return ""
    values = [_needed(entry, "nll_held_out", "stopping.max_nll_rise") for entry in checkpoints]
    lowest = values.index(min(values))
    return _over(
        "rise of held-out NLL",
        values[-1] - values[lowest],
        stopping.max_nll_rise,
        f" since step {checkpoints[lowest]['step']}",
    )


def _over(what: str, value: float, limit: float, where: str = "") -> str:
    return f"{what} {value:.4g}{where}, over {limit:g}" if value > limit else ""
