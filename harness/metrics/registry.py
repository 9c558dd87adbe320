"""The registry of metrics: each one is declared where it is computed, and every list is derived.

A module of this package, a file given with ``--metrics FILE.py`` or an installed package (entry
point group ``formatproof.metrics``) declares a metric with ``scorer``. Scoring, terminal, report,
budget, search, gate and model card read ``METRICS`` and name no metric themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.conversation import ParsedAnswer
from harness.errors import HarnessError
from harness.records import Case, Format, Loglikelihood

if TYPE_CHECKING:
    from harness.metrics.control_strings import ControlIndex
    from harness.metrics.copies.recall_index import RecallIndex
    from harness.stats import Interval, Matrix

    Values = Sequence[float] | Matrix

Kind = Literal["choice", "answer", "reference", "call"]
KINDS: tuple[Kind, ...] = ("choice", "answer", "reference", "call")
#: A number, or None where nothing can be scored, with a reason where there is one.
Scored = float | None | tuple[float | None, str]
ENTRY_POINTS = "formatproof.metrics"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Metric:
    """One number for each case in each format, and everything that is known about it."""

    name: str
    kind: Kind
    """The cases that have it: with options, with checks of a free answer, with a reference, or with
    tools."""
    about: str
    """What it measures, in a few words."""
    better: Literal["higher", "lower"]
    label: str = ""
    """A short title; the name with spaces unless given."""
    unit: str = "rate"
    """``rate`` (0 to 1), ``nats/token``, or a word of your own."""
    binary: bool = False
    """Each value is 0 or 1: it can be estimated under a budget and searched by."""
    headline: bool = False
    """Shown in the terminal's table, in report.md and on the model card."""
    by_depth: bool = False
    """Compared by turn and by depth of the conversation."""
    optional: bool = False
    """Computed for some cases only, such as those with a named character."""
    signed: bool = False
    """A difference, shown with its sign."""
    worst: float | None = 0.5
    """The value that gets the worst colour where less is better; None: no colours. Where more is
    better, 0 gets the worst and 1 the best."""
    tolerance: float | None = None
    """The loss against a baseline that a user can accept, unless thresholds.toml sets another.
    None: recorded, and not gated."""
    tested_by: str = ""
    """A continuous metric of the same cases that finds a loss of this one sooner."""
    scored_with: str = ""
    """The metric without which it cannot be scored: a thought can drift only where there is one.
    Where a run scores that and not this, nothing is missing."""
    lost: str = ""
    """What a loss of it means, in words that a verdict and the gate say."""
    remedy: str = ""
    """What helps against such a loss."""
    source: str = ""
    """The paper or project that defines it."""
    rank: int = 1000
    """Its place in tables: lower comes first."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"invalid metric name {self.name!r}: use a-z, 0-9 and _")
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.better not in ("higher", "lower"):
            raise ValueError(f"{self.name}: better is 'higher' or 'lower', not {self.better!r}")

    @property
    def title(self) -> str:
        """The label, or the name with spaces."""
        return self.label or self.name.replace("_", " ")

    @property
    def of_some_models(self) -> bool:
        """Whether only models of some kind are asked for it, such as those that call tools."""
        return self.optional or self.kind == "call"

    @property
    def lower_is_better(self) -> bool:
        """Whether a rise is a loss."""
        return self.better == "lower"

    def interval(self, values: Values) -> Interval:
        """The mean with the 95 % interval that fits this metric's values.

        ``values``: one per item, or an items × formats table with NaN where nothing was scored.
        """
        from harness.stats import mean_interval, rate_interval

        if self.binary:
            return rate_interval(values)
        return mean_interval(values, *((0.0, 1.0) if self.unit == "rate" else ()))

    def difference(self, values: Values, level: float = 0.95) -> Interval:
        """The mean difference of two runs, paired by item, with its interval."""
        from harness.stats import difference_interval, mean_interval

        if self.binary:
            return difference_interval(values, level)
        ends = (-1.0, 1.0) if self.unit == "rate" else (-math.inf, math.inf)
        return mean_interval(values, *ends, level=level)


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """The log-probabilities of a case's options in one format.

    ``challenged`` holds them after the right option was given and doubted (``--flips``), or None.
    """

    case: Case
    format: Format
    scorings: Sequence[Loglikelihood]
    challenged: Sequence[Loglikelihood] | None = None


@dataclass(frozen=True, slots=True)
class AnswerItem:
    """A free answer to a case in one format.

    ``text`` is what its reader sees, up to the stop: without thoughts and calls, which ``parsed``
    has, unless the format writes neither. ``finish`` is "stop", "length" or "error", ``stops`` are
    the format's stops with names filled in. ``off_script`` is, for each token, the probability of
    any token in another script. ``controls`` indexes the control strings of every known format,
    ``training_set`` the training answers where they are known. ``thinking``: whether the format
    asks for a thought here; None for one without thoughts.
    """

    case: Case
    format: Format
    text: str
    finish: Literal["stop", "length", "error"]
    token_ids: tuple[int, ...]
    off_script: Sequence[float]
    stops: tuple[str, ...]
    controls: ControlIndex
    training_set: RecallIndex | None = None
    parsed: ParsedAnswer | None = None
    thinking: bool | None = None

    @property
    def reasoning(self) -> str:
        """The thought, or nothing."""
        return (self.parsed.reasoning or "").strip() if self.parsed else ""

    @property
    def prompt(self) -> str:
        """The contents of the case's messages."""
        return "\n".join(message.content for message in self.case.messages)


@dataclass(frozen=True, slots=True)
class ReferenceItem:
    """The log-probability of a case's reference in one format and in the native one, if any."""

    case: Case
    format: Format
    scoring: Loglikelihood
    native: Loglikelihood | None


Function = Callable[[Any], Scored | Mapping[str, Scored]]


@dataclass(frozen=True, slots=True)
class ScoreFunction:
    """A function that scores one item, and the metrics that it gives."""

    function: Function
    metrics: tuple[Metric, ...]
    file: str

    @property
    def shipped(self) -> bool:
        """Whether it is part of this package."""
        return self.function.__module__.startswith("harness.metrics.")

    def __call__(self, item: Any) -> dict[str, tuple[float | None, str]]:
        """Each metric's value with its reason.

        Raises HarnessError for what a user's function does wrong.
        """
        if self.shipped:
            return self._named(self.function(item))
        try:
            values = self._named(self.function(item))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise HarnessError(
                f"metric {self.metrics[0].name} failed on case {item.case.id}: {reason}",
                where=self.file,
            ) from error
        for metric in self.metrics:
            value = values.get(metric.name, (None, ""))[0]
            if value is not None and not math.isfinite(value):
                problem = f"{value} is not a finite number"
            elif metric.binary and value not in (None, 0, 1):
                problem = f"{value} is neither 0 nor 1, as binary=True says"
            else:
                continue
            raise HarnessError(f"metric {metric.name}: {problem}", where=self.file)
        return values

    def _named(self, found: Scored | Mapping[str, Scored]) -> dict[str, tuple[float | None, str]]:
        by_name = found if isinstance(found, Mapping) else {self.metrics[0].name: found}
        return {
            name: value if isinstance(value, tuple) else (value, "")
            for name, value in by_name.items()
        }


class Registry(Mapping[str, Metric]):
    """All metrics by name, in the order of their ranks.

    The first look imports what declares any.
    """

    def __init__(self) -> None:
        self._scorers: list[ScoreFunction] = []
        self._metrics: dict[str, Metric] = {}
        self._files: set[Path] = set()
        self._discovered = False

    def __getitem__(self, name: str) -> Metric:
        self._discover()
        return self._metrics[name]

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._metrics, key=lambda name: self._metrics[name].rank))

    def __len__(self) -> int:
        self._discover()
        return len(self._metrics)

    def add(self, function: Function, metrics: tuple[Metric, ...]) -> None:
        """Register a function. Raises HarnessError for a name that is taken and mixed kinds."""
        file = function.__code__.co_filename if hasattr(function, "__code__") else ""
        if not metrics or len({metric.kind for metric in metrics}) > 1:
            raise HarnessError("a scorer gives metrics of one kind, at least one", where=file)
        declared = {metric.name for one in self._scorers for metric in one.metrics}
        if taken := [metric.name for metric in metrics if metric.name in declared]:
            raise HarnessError(f"metric {taken[0]!r} is already declared", where=file)
        self._scorers.append(ScoreFunction(function, metrics, file))
        self._metrics.update({metric.name: metric for metric in metrics})

    def describe(self, metric: Metric) -> None:
        """Know a metric that a report names and no function here computes."""
        if metric.name not in self:
            self._metrics[metric.name] = metric

    def scorers(self, kind: Kind) -> list[ScoreFunction]:
        """The functions that score items of a kind, in the order of their first metrics."""
        self._discover()
        found = [scorer for scorer in self._scorers if scorer.metrics[0].kind == kind]
        return sorted(found, key=lambda scorer: scorer.metrics[0].rank)

    def computed(self, kind: Kind) -> list[Metric]:
        """The metrics of a kind without those that only a report names, in their order."""
        found = [metric for scorer in self.scorers(kind) for metric in scorer.metrics]
        return sorted(found, key=lambda metric: metric.rank)

    def load_file(self, path: Path) -> None:
        """Run a Python file that declares metrics, once.

        Raises HarnessError when it cannot be run or declares none.
        """
        self._discover()
        path = path.resolve()
        if path in self._files:
            return
        before = len(self._scorers)
        spec = importlib.util.spec_from_file_location(f"formatproof_metrics_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise HarnessError("not a Python file with metrics", where=str(path))
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except HarnessError:
            raise
        except Exception as error:
            raise HarnessError(
                f"cannot load metrics: {type(error).__name__}: {error}", where=str(path)
            ) from error
        if len(self._scorers) == before:
            raise HarnessError(
                "declares no metric", where=str(path), hint="see docs/add-a-metric.md"
            )
        self._files.add(path)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for module in pkgutil.iter_modules([str(Path(__file__).parent)], "harness.metrics."):
            importlib.import_module(module.name)
        for point in entry_points(group=ENTRY_POINTS):
            try:
                point.load()
            except ImportError as error:
                raise HarnessError(f"cannot load metrics: {error}", where=point.value) from error


METRICS = Registry()


def scorer(*metrics: Metric) -> Callable[[Function], Function]:
    """Declare that a function gives these metrics.

    It takes a ChoiceItem, AnswerItem or ReferenceItem, by the kind of its metrics; those of calls
    take an AnswerItem. It returns a number or None (not scored), a pair of that and a reason, or
    with several metrics a mapping from their names to such values.
    """

    def declare(function: Function) -> Function:
        METRICS.add(function, metrics)
        return function

    return declare


def headline(scored: Iterable[str] | None = None) -> list[str]:
    """The names of the metrics in the terminal's table, in order.

    ``scored`` names the metrics that have a value somewhere. With it, a metric of some models only
    (calls, thoughts) is left out where it has none.
    """
    names = [metric.name for metric in METRICS.values() if metric.headline]
    if scored is None:
        return names
    known = set(scored)
    return [name for name in names if name in known or not METRICS[name].of_some_models]


def main_rates() -> list[str]:
    """The headline metrics of 0 or 1 of which more is better."""
    return [name for name in headline() if METRICS[name].binary and not lower_is_better(name)]


def lower_is_better(name: str) -> bool:
    """Whether a rise of this metric is a loss. False for a metric that is not known here."""
    return name in METRICS and METRICS[name].lower_is_better


def about(name: str) -> str:
    """What a metric measures, or nothing for one that is not known here."""
    return METRICS[name].about if name in METRICS else ""


def in_order(names: Iterable[str]) -> list[str]:
    """Names of metrics in the order of tables; unknown ones follow alphabetically."""
    present = set(names)
    return [name for name in METRICS if name in present] + sorted(present - set(METRICS))


def metrics_table() -> str:
    """The table of docs/measures.md."""
    lines = ["| metric | better | what it is | from |", "|---|---|---|---|"]
    lines += [
        f"| `{metric.name}` | {metric.better} | {metric.about} | {metric.source} |"
        for metric in METRICS.values()
    ]
    return "\n".join(lines)
