"""When a run ends early: patience on the deciding metric, and limits on recall, drift and NLL.

Pure functions of what metrics.jsonl holds, so a resumed run decides as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, nearest
from harness.training.config import EvaluationConfig, StoppingConfig

if TYPE_CHECKING:
    from harness.training.config import TrainConfig

#: What was logged at one checkpoint.
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StopDecision:
    """Why to stop after the newest checkpoint, or "", and which limits it exceeds."""

    stop: str = ""
    marks: tuple[str, ...] = ()


#: All measured checkpoints so far → whether to stop after the newest.
StopRule = Callable[[list[dict[str, Any]]], StopDecision]


def configured_rule(config: TrainConfig) -> StopRule | None:
    """The rule of [stopping], or None when it sets no limit."""
    if not config.stopping.watched:
        return None
    return lambda checkpoints: decide_stop(checkpoints, config.stopping, config.evaluation)


def combined(first: StopRule | None, second: StopRule | None) -> StopRule | None:
    """Stop where either rule says so; the marks are those of the first."""
    if first is None or second is None:
        return first or second

    def rule(checkpoints: list[dict[str, Any]]) -> StopDecision:
        decision = first(checkpoints)
        return replace(decision, stop=decision.stop or second(checkpoints).stop)

    return rule


def decide_stop(
    checkpoints: Sequence[Entry], stopping: StoppingConfig, evaluation: EvaluationConfig
) -> StopDecision:
    """Decide after the newest of a run's checkpoints, which come oldest first.

    Raises HarnessError when a metric that has a limit was not logged.
    """
    if not checkpoints:
        return StopDecision()
    exceeded = [check(checkpoints, stopping) for check in (_recall, _hazard, _rise)]
    marks = tuple(filter(None, exceeded))
    stop = _patience(checkpoints, stopping, evaluation) if stopping.early_stopping_patience else ""
    if not stop and marks and stopping.on_limit == "stop":
        stop = marks[0]
    return StopDecision(stop, marks)


def value_of(entry: Entry, name: str) -> float | None:
    """A metric at a checkpoint, or None where it was not measured.

    ``recall`` and ``hazard`` are the highest of their formats and groups. Without held-out formats
    ``nll_seen`` replaces ``nll_held_out``, and likewise for the hazard.
    """
    if name == "recall":
        return max(entry.get("recall", {}).values(), default=None)
    if name == "hazard":
        values = (value for key, value in entry.items() if key.startswith("hazard_"))
        return max((value for value in values if isinstance(value, float)), default=None)
    value = entry.get(name, entry.get(name.replace("held_out", "seen")))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _needed(entry: Entry, name: str, asked_by: str) -> float:
    value = value_of(entry, name)
    if value is None:
        logged = {key for key, number in entry.items() if isinstance(number, float)}
        logged = logged - {"epoch", "sum_lr"} | ({"recall"} if entry.get("recall") else set())
        raise HarnessError(
            f"{asked_by}: no metric {name!r} is measured at checkpoints",
            hint=nearest(name, logged) or "nothing is measured: see [evaluation]",
        )
    return value


def _patience(
    checkpoints: Sequence[Entry], stopping: StoppingConfig, evaluation: EvaluationConfig
) -> str:
    name = evaluation.metric_for_best_model
    values = [_needed(entry, name, "evaluation.metric_for_best_model") for entry in checkpoints]
    best = 0
    for index, value in enumerate(values):
        if values[best] - value > stopping.early_stopping_threshold:
            best = index
    waited = len(values) - 1 - best
    if waited < stopping.early_stopping_patience:
        return ""
    best_of = f"{values[best]:.4g} (step {checkpoints[best]['step']})"
    return f"{name} has not been better than {best_of} at {waited} checkpoints"


def _recall(checkpoints: Sequence[Entry], stopping: StoppingConfig) -> str:
    """The excess since step 0: training rows and controls are not equally likely at the start.

    A branch has no step 0, so there it is the excess itself.
    """
    if stopping.max_recall_excess is None:
        return ""
    _needed(checkpoints[-1], "recall", "stopping.max_recall_excess")
    null = checkpoints[0].get("recall", {}) if checkpoints[0]["step"] == 0 else {}
    now = checkpoints[-1]["recall"]
    excess = {format_id: value - null.get(format_id, 0.0) for format_id, value in now.items()}
    worst = max(excess, key=lambda format_id: excess[format_id])
    return _over("recall excess", excess[worst], stopping.max_recall_excess, f" in {worst}")


def _hazard(checkpoints: Sequence[Entry], stopping: StoppingConfig) -> str:
    if stopping.max_drift_hazard is None:
        return ""
    hazard = _needed(checkpoints[-1], "hazard", "stopping.max_drift_hazard")
    return _over("drift hazard", hazard, stopping.max_drift_hazard)


def _rise(checkpoints: Sequence[Entry], stopping: StoppingConfig) -> str:
    if stopping.max_nll_rise is None:
        return ""
    values = [_needed(entry, "nll_held_out", "stopping.max_nll_rise") for entry in checkpoints]
    lowest = values.index(min(values))
    since = f" since step {checkpoints[lowest]['step']}"
    rise = values[-1] - values[lowest]
    return _over("rise of held-out NLL", rise, stopping.max_nll_rise, since)


def _over(name: str, value: float, limit: float, where: str = "") -> str:
    return f"{name} {value:.4g}{where}, over {limit:g}" if value > limit else ""
