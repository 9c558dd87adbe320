"""The gate without pytest: options in, verdicts out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.formats import FormatSet, load_formats
from harness.gate.baseline import Baseline, BaselineEntry, to_baseline, with_new_entries
from harness.gate.baseline_file import read_baseline, write_baseline
from harness.gate.requirements import check_absolute, check_requirements, parse_requirement
from harness.gate.thresholds import THRESHOLDS_FILE, Thresholds, read_thresholds
from harness.gate.verdicts import accepted, compare_baselines
from harness.metrics.registry import METRICS
from harness.records import GateCheck
from harness.resources import data_dir

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the user asked for."""

    model: str
    adapter: str | None = None
    baseline: Path | None = None
    update: bool = False
    add_new: bool = False
    """Add to the baseline only what it does not have yet; judge the rest."""
    require: tuple[str, ...] = ()
    folder: Path = Path("build/gate")
    """Where results are kept, and the report where one is asked for."""
    report: bool = False
    formats: tuple[str, ...] = ()
    formats_dirs: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
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
        """The command that does the same with this baseline, ready to paste.

        ``every_format`` leaves ``--formats`` out.
        """
        words = ["pytest", *self.tests, "--model", self.model]
        words += ["--adapter", self.adapter] if self.adapter else []
        words += ["--formats", ",".join(self.formats)] if self.formats and not every_format else []
        words += [word for folder in self.formats_dirs for word in ("--formats-dir", folder)]
        words += [word for file in self.cases for word in ("--cases", file)]
        words += [word for file in self.metrics for word in ("--metrics", file)]
        words += ["--limit", str(self.limit)] if self.limit is not None else []
        words += [word for text in self.require for word in ("--require", text)]
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
    verdicts: tuple[GateCheck, ...]


def run_gate(options: GateOptions) -> GateResult:
    """Check what is cheap to check, evaluate, and compare. Writes only the store of results.

    Raises HarnessError for every mistake of the user's, and when there is nothing to judge.
    """
    for file in options.metrics:
        METRICS.load_file(Path(file))
    known = load_formats(*map(Path, options.formats_dirs))
    selected = {chosen.id for chosen in known.select(options.formats)} if options.formats else None
    thresholds = read_thresholds(options.thresholds, known)
    requirements = [parse_requirement(text) for text in options.require]
    before = _read_before(options)
    if before and options.update and selected is not None:
        _refuse_loss(options, before, selected)
    formats = options.formats or formats_to_measure(before, known)
    evaluation = _evaluate(options, formats)
    current = to_baseline(evaluation, formats)
    if not current.entries:
        verdicts = [nothing_scored(current.reasons.values())]
    else:
        verdicts = check_requirements(current, requirements)
        if options.baseline is not None:
            verdicts = [*_compare(options, before, current, thresholds, selected), *verdicts]
        elif not requirements:
            verdicts = check_absolute(current, thresholds)
    if not verdicts:
        raise _nothing_to_judge(options, current)
    return GateResult(options, evaluation, before, current, tuple(verdicts))


def _compare(
    options: GateOptions,
    before: Baseline | None,
    current: Baseline,
    thresholds: Thresholds,
    selected: set[str] | None,
) -> list[GateCheck]:
    """The verdicts against the baseline. A baseline yet to be made has no entries."""

    def was_selected(entry: BaselineEntry) -> bool:
        """Whether an entry of the baseline was to be measured again, by format and kind of case."""
        return (selected is None or entry.format in selected) and (
            not options.cases or entry.kind in current.cases
        )

    baseline = before or replace(current, entries=())
    verdicts = compare_baselines(baseline, current, thresholds.margins, was_selected)
    return accepted(verdicts) if options.update else verdicts


def _nothing_to_judge(options: GateOptions, current: Baseline) -> HarnessError:
    measured = ", ".join(sorted({entry.metric for entry in current.entries}))
    command = options.command(baseline=suggested_baseline(options), update=True)
    return HarnessError(
        f"nothing to judge: {options.thresholds} sets nothing for what was measured ({measured})",
        hint="" if options.baseline else f"compare with a baseline: {command}",
    )


def nothing_scored(reasons: Iterable[str]) -> GateCheck:
    """The one verdict of a run in which nothing was scored."""
    why = next(iter(reasons), "") or "no case was evaluated"
    return GateCheck("every format", "every metric", "missing", None, None, 0.0, 0, why=why)


def write_results(result: GateResult) -> None:
    """Write what was asked for: the report, and the new baseline unless nothing was scored."""
    options, before, current = result.options, result.before, result.current
    if options.report:
        from harness.evaluation.analysis.build_report import write_evaluation_report

        write_evaluation_report(
            [result.evaluation], options.folder, model=options.model, limit=options.limit
        )
    if options.baseline is None or not current.entries:
        return
    if options.update:
        write_baseline(current, options.baseline)
    elif options.add_new:
        write_baseline(with_new_entries(before, current) if before else current, options.baseline)


def suggested_baseline(options: GateOptions) -> Path:
    """Where a first baseline of this model belongs: beside the gate's tests."""
    tests = Path(options.tests[0].split("::")[0])
    folder = tests.parent if tests.suffix == ".py" else tests
    return folder / "baselines" / f"{options.model_name}.json"


def _read_before(options: GateOptions) -> Baseline | None:
    if options.baseline is None:
        if options.update:
            raise HarnessError(
                "--update-baseline needs --baseline FILE",
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
    """A baseline is written whole, so --formats would drop the other formats' numbers."""
    lost = sorted(set(before.formats) - selected - {before.native})
    if lost:
        names = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        raise HarnessError(
            f"--update-baseline with --formats would drop {len(lost)} of its formats ({names})",
            where=str(options.baseline),
            hint="leave out --formats, or delete the file first",
        )


def formats_to_measure(before: Baseline | None, known: FormatSet) -> tuple[str, ...]:
    """The formats without --formats: the baseline's that still exist, and the user's own.

    The baseline's drawn formats have no file; they are drawn again by the same name. Without a
    baseline it is the default set. Raises HarnessError when no format of the baseline is known.
    """
    if before is None:
        return known.default
    names = [*(format_id for format_id in before.formats if format_id in known), *before.grammar]
    if before.formats and not names:
        ids = ", ".join(list(before.formats)[:5])
        raise HarnessError(
            f"no format of the baseline is known ({ids})",
            hint="give --formats or --formats-dir as when it was made",
        )
    return tuple(dict.fromkeys([*names, *known.own]))


def _evaluate(options: GateOptions, formats: tuple[str, ...]) -> Evaluation:
    from harness.evaluation.run import run_job
    from harness.evaluation.settings import EvalJob

    job = EvalJob(
        model=options.model,
        adapter=options.adapter,
        formats=formats,
        formats_dirs=options.formats_dirs,
        metrics=options.metrics,
        cases=options.cases,
        limit=options.limit,
        out=options.folder,
        label="gate",
    )
    return run_job(job)
