"""The gate without pytest: options in, verdicts out. Each mistake of the user's is a HarnessError."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.formats import FormatSet, load_formats
from harness.gate.baseline import Baseline, MetricScores, to_baseline, with_new_cells
from harness.gate.baseline_file import read_baseline, write_baseline
from harness.gate.requirements import check_absolute, check_requirements, parse_requirement
from harness.gate.thresholds import read_thresholds
from harness.gate.verdicts import accepted, compare_baselines
from harness.records import Verdict
from harness.resources import data_dir

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation

THRESHOLDS_FILE = "thresholds.toml"


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the user asked for. ``folder`` keeps the results; ``report`` asks for a report there as well."""

    model: str
    adapter: str | None = None
    baseline: Path | None = None
    update: bool = False
    add_new: bool = False
    """Of the baseline only what it does not have yet is written; the rest is judged."""
    require: tuple[str, ...] = ()
    folder: Path = Path("build/gate")
    report: bool = False
    formats: tuple[str, ...] = ()
    formats_dirs: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    limit: int | None = None
    tests: tuple[str, ...] = ("eval/",)
    root: Path = Path()
    """The folder that ``tests`` are relative to."""

    @property
    def thresholds(self) -> Path:
        """The thresholds beside the gate's tests, or the shipped ones where the user has none."""
        tests = self.root / self.tests[0].split("::")[0]
        own = (tests.parent if tests.suffix == ".py" else tests) / THRESHOLDS_FILE
        return own if own.is_file() else data_dir("eval") / THRESHOLDS_FILE

    def command(
        self, *, baseline: Path | None = None, update: bool = False, every_format: bool = False
    ) -> str:
        """The command that does the same with this baseline, ready to paste; ``every_format`` leaves ``--formats`` out."""
        words = ["pytest", *self.tests, "--model", self.model]
        words += ["--adapter", self.adapter] if self.adapter else []
        words += ["--formats", ",".join(self.formats)] if self.formats and not every_format else []
        words += [word for folder in self.formats_dirs for word in ("--formats-dir", folder)]
        words += [word for file in self.cases for word in ("--cases", file)]
        words += ["--limit", str(self.limit)] if self.limit is not None else []
        words += [word for demand in self.require for word in ("--require", demand)]
        words += ["--report-dir", str(self.folder)] if self.report else []
        words += ["--baseline", str(baseline)] if baseline else []
        return shlex.join(words + (["--update-baseline"] if update else []))

    @property
    def model_name(self) -> str:
        """The model's name without its path."""
        return Path(self.model).name or self.model


@dataclass(frozen=True)
class GateResult:
    """A judged run. ``before`` is the baseline it was compared with, None without one."""

    options: GateOptions
    evaluation: Evaluation
    before: Baseline | None
    current: Baseline
    verdicts: tuple[Verdict, ...]


def run_gate(options: GateOptions) -> GateResult:
    """Check what is cheap to check, evaluate, and compare. Writes nothing but the store of results.

    Raises HarnessError for every mistake of the user's, and when there is nothing to judge.
    """
    known = load_formats(*map(Path, options.formats_dirs))
    selected = {format.id for format in known.select(options.formats)} if options.formats else None
    thresholds = read_thresholds(options.thresholds, known)
    demands = [parse_requirement(text) for text in options.require]
    before = _read_before(options)
    if before and options.update and selected is not None:
        _refuse_loss(options, before, selected)
    evaluation = _evaluate(options, options.formats or formats_to_measure(before, known))
    current = to_baseline(evaluation)
    if not current.cells:
        verdicts = [nothing_scored(current.reasons.values())]
    elif options.baseline is None:
        verdicts = (
            check_requirements(current, demands) if demands else check_absolute(current, thresholds)
        )
    elif before is None:
        verdicts = compare_baselines(replace(current, cells=()), current, thresholds.margins)
    else:
        verdicts = compare_baselines(
            before,
            current,
            thresholds.margins,
            lambda cell: _asked_for(cell, options, current, selected),
        )
        verdicts = accepted(verdicts) if options.update else verdicts
    if demands and current.cells and options.baseline is not None:
        verdicts = [*verdicts, *check_requirements(current, demands)]
    if not verdicts:
        measured = ", ".join(sorted({cell.metric for cell in current.cells}))
        hint = (
            ""
            if options.baseline
            else "compare with a baseline: "
            + options.command(baseline=suggested_baseline(options), update=True)
        )
        raise HarnessError(
            f"nothing to judge: {options.thresholds} sets nothing for what was measured ({measured})",
            hint=hint,
        )
    return GateResult(options, evaluation, before, current, tuple(verdicts))


def write_results(result: GateResult) -> None:
    """Write what was asked for: the report, and the new baseline unless nothing was scored."""
    options = result.options
    if options.report:
        from harness.evaluation.analysis.build_report import write_evaluation_report

        write_evaluation_report(
            [result.evaluation], options.folder, model=options.model, limit=options.limit
        )
    if options.baseline is None or not result.current.cells:
        return
    if options.update:
        write_baseline(result.current, options.baseline)
    elif options.add_new:
        write_baseline(
            with_new_cells(result.before, result.current)
            if result.before
            else result.current,
            options.baseline,
        )


def nothing_scored(reasons: Iterable[str]) -> Verdict:
    """The one verdict of a run without a single scored cell."""
    why = next(iter(reasons), "") or "no case was evaluated"
    return Verdict("every format", "every measure", "missing", None, None, 0.0, 0, why=why)


def suggested_baseline(options: GateOptions) -> Path:
    """Where a first baseline of this model would stand: beside the gate's tests."""
    tests = Path(options.tests[0].split("::")[0])
    return (
        (tests.parent if tests.suffix == ".py" else tests)
        / "baselines"
        / f"{options.model_name}.json"
    )


def _read_before(options: GateOptions) -> Baseline | None:
    if options.baseline is None:
        if options.update:
            raise HarnessError(
                "--update-baseline needs to know which",
                hint=options.command(baseline=suggested_baseline(options), update=True),
            )
        return None
    if not options.baseline.exists():
        if options.update or options.add_new:
            return None
        raise HarnessError(
            "no such baseline",
            where=str(options.baseline),
            hint="make it: " + options.command(baseline=options.baseline, update=True),
        )
    return read_baseline(options.baseline)


def _refuse_loss(options: GateOptions, before: Baseline, selected: set[str]) -> None:
    """A baseline is written whole, so --formats would throw the other formats' numbers away."""
    lost = sorted(set(before.formats) - selected - {before.native})
    if lost:
        named = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        hint = "leave out --formats, or delete the file first"
        raise HarnessError(
            f"--update-baseline with --formats would drop {len(lost)} of its formats ({named})",
            where=str(options.baseline),
            hint=hint,
        )


def _asked_for(
    cell: MetricScores, options: GateOptions, current: Baseline, selected: set[str] | None
) -> bool:
    """Whether a baseline cell was to be measured again: its format was, and so was its kind of case."""
    return (selected is None or cell.format in selected) and (
        not options.cases or cell.kind in current.cases
    )


def formats_to_measure(before: Baseline | None, known: FormatSet) -> tuple[str, ...]:
    """Without --formats: those of the baseline that still exist, and the user's own; the default set without a baseline."""
    if before is None:
        return known.default
    return tuple(dict.fromkeys([*(id for id in before.formats if id in known), *known.own]))


def _evaluate(options: GateOptions, formats: tuple[str, ...]) -> Evaluation:
    from harness.evaluation.run import run_job
    from harness.evaluation.settings import EvalJob

    job = EvalJob(
        model=options.model,
        adapter=options.adapter,
        formats=formats,
        formats_dirs=options.formats_dirs,
        cases=options.cases,
        limit=options.limit,
        out=options.folder,
        label="gate",
    )
    return run_job(job)
