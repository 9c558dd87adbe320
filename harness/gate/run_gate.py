"""The gate without pytest: options in, checks out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.formats import FormatSet, load_formats
from harness.gate.artefact import artefact_job, without_loglikelihood
from harness.gate.baseline import Baseline, BaselineEntry, to_baseline, with_new_entries
from harness.gate.baseline_file import read_baseline, write_baseline
from harness.gate.compare_baselines import accepted, paired_values
from harness.gate.decide import decide
from harness.gate.power import power_line
from harness.gate.requirements import check_absolute, check_requirements, parse_requirement
from harness.gate.thresholds import THRESHOLDS_FILE, GateTable, read_thresholds
from harness.gate.word_checks import check_not_broken, check_words
from harness.metrics.registry import METRICS
from harness.records import GateCheck, Verdict
from harness.resources import data_dir

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation
    from harness.evaluation.settings import EvalJob


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the user asked for, by flags or in ``[gate]`` of thresholds.toml."""

    model: str
    adapter: str | None = None
    native: str | None = None
    endpoint: str | None = None
    artefact: str | None = None
    """A shipped file of the model, or its name on a server, judged in the model's place."""
    baseline: Path | None = None
    update: bool = False
    add_new: bool = False
    """Add to the baseline only what it does not have yet; judge the rest."""
    require: tuple[str, ...] = ()
    strict: bool = False
    """Whether an inconclusive check fails."""
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
    stored: GateTable = field(default_factory=GateTable)
    """What ``[gate]`` says; a command need not repeat it."""

    @property
    def thresholds(self) -> Path:
        """The thresholds beside the gate's tests, or the shipped ones where the user has none."""
        own = next(filter(Path.is_file, map(self._beside, self.tests)), None)
        return own or data_dir("eval") / THRESHOLDS_FILE

    def _beside(self, test: str) -> Path:
        tests = self.root / test.split("::", maxsplit=1)[0]
        return (tests.parent if tests.suffix == ".py" else tests) / THRESHOLDS_FILE

    def command(self, *more: str, **changed: Any) -> str:
        """The command that does the same with some options changed, ready to paste."""
        options, stored = replace(self, **changed), self.stored
        words = ["pytest", *options.tests]
        for name in ("model", "adapter", "native", "endpoint"):
            if (value := getattr(options, name)) != getattr(stored, name):
                words += [f"--gate-{name}", value or ""]
        words += ["--gate-artefact", options.artefact] if options.artefact else []
        if options.limit is not None and options.limit != stored.limit:
            words += ["--gate-limit", str(options.limit)]
        if options.formats and list(options.formats) != stored.formats:
            words += ["--gate-formats", ",".join(options.formats)]
        for flag, values, known in (
            ("formats-dir", options.formats_dirs, stored.formats_dir),
            ("cases", options.cases, stored.cases),
            ("metrics", options.metrics, stored.metrics),
            ("require", options.require, []),
        ):
            if list(values) != known:
                words += [word for value in values for word in (f"--gate-{flag}", value)]
        words += ["--gate-strict"] if options.strict and not stored.strict else []
        words += ["--gate-report-dir", str(options.folder)] if options.report else []
        if options.baseline and str(options.baseline) != stored.baseline:
            words += ["--gate-baseline", str(options.baseline)]
        return shlex.join([*words, *more])

    @property
    def model_name(self) -> str:
        """The name of what is judged, without its path."""
        judged = self.artefact or self.model
        return Path(judged).name or judged


UPDATE = "--gate-update-baseline"


@dataclass(frozen=True)
class GateResult:
    """A judged run. ``before`` is the baseline it was compared with, None without one."""

    options: GateOptions
    evaluation: Evaluation
    before: Baseline | None
    current: Baseline
    checks: tuple[GateCheck, ...]
    power: str = ""
    """What the tests of this run can see, in words."""
    verdicts: tuple[Verdict, ...] = ()
    """The verdict on each format."""


def run_gate(options: GateOptions) -> GateResult:
    """Check what is cheap to check, evaluate, and compare. Writes only the store of results.

    Raises HarnessError for every mistake of the user's, and when there is nothing to judge.
    """
    from harness.evaluation.analysis.format_verdicts import verdicts
    from harness.evaluation.run import run_job

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
    job = _job(options, formats)
    if options.artefact and before:
        job = artefact_job(job, options.artefact, before, known)
    evaluation = run_job(job)
    current = to_baseline(evaluation, formats)
    found = tuple(verdicts(evaluation))
    checks = check_requirements(current, requirements)
    power = ""
    if not current.entries:
        checks = [nothing_scored(current.reasons.values())]
    elif options.baseline is not None:
        baseline = before or replace(current, entries=())
        untested, pairs = paired_values(
            baseline, current, thresholds.tolerances, _selector(options, current, selected)
        )
        if options.artefact:
            untested = without_loglikelihood(untested, evaluation.no_loglikelihood)
        compared = sorted([*untested, *decide(pairs)], key=lambda each: (each.format, each.metric))
        words = check_words(baseline, current, found)
        checks = [*(accepted(compared) if options.update else compared + words), *checks]
        power = "" if options.update else power_line(pairs)
    elif not requirements:
        checks = [
            *check_not_broken(current, found, thresholds.not_broken),
            *check_absolute(current, thresholds),
        ]
    if not checks:
        raise _nothing_to_judge(options, current)
    return GateResult(options, evaluation, before, current, tuple(checks), power, found)


def _selector(
    options: GateOptions, current: Baseline, selected: set[str] | None
) -> Callable[[BaselineEntry], bool]:
    """Whether an entry of the baseline was to be measured again, by format and kind of case."""
    return lambda entry: (
        (selected is None or entry.format in selected)
        and (not options.cases or entry.kind in current.cases)
    )


def _nothing_to_judge(options: GateOptions, current: Baseline) -> HarnessError:
    measured = ", ".join(sorted({entry.metric for entry in current.entries}))
    command = options.command(UPDATE, baseline=suggested_baseline(options))
    return HarnessError(
        f"nothing to judge: {options.thresholds} sets nothing for what was measured ({measured})",
        hint="" if options.baseline else f"compare with a baseline: {command}",
    )


def nothing_scored(reasons: Iterable[str]) -> GateCheck:
    """The one check of a run in which nothing was scored."""
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
    trained = replace(options, artefact=None)
    make = trained.command(UPDATE, baseline=options.baseline or suggested_baseline(trained))
    if options.artefact and (options.update or options.add_new or options.baseline is None):
        raise HarnessError(
            "--gate-artefact is judged by the baseline of the trained model, and never writes it",
            hint=f"make it: {make}",
        )
    if options.baseline is None:
        if options.update:
            raise HarnessError("--gate-update-baseline needs --gate-baseline FILE", hint=make)
        return None
    if not options.baseline.exists():
        if options.update or options.add_new:
            return None
        raise HarnessError(
            "no such baseline",
            where=str(options.baseline),
            hint=f"make it: {make}",
        )
    return read_baseline(options.baseline)


def _refuse_loss(options: GateOptions, before: Baseline, selected: set[str]) -> None:
    """A baseline is written whole, so --gate-formats would drop the other formats' numbers."""
    lost = sorted(set(before.formats) - selected - {before.native})
    if lost:
        names = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        raise HarnessError(
            f"{UPDATE} with --gate-formats would drop {len(lost)} of its formats ({names})",
            where=str(options.baseline),
            hint="leave out --gate-formats, or delete the file first",
        )


def formats_to_measure(before: Baseline | None, known: FormatSet) -> tuple[str, ...]:
    """The formats without --gate-formats: the baseline's that still exist, and the user's own.

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
            hint="give --gate-formats or --gate-formats-dir as when it was made",
        )
    return tuple(dict.fromkeys([*names, *known.own]))


def _job(options: GateOptions, formats: tuple[str, ...]) -> EvalJob:
    from harness.evaluation.settings import EvalJob

    engine: dict[str, Any] = {}
    if options.endpoint is not None:
        key = os.environ.get("OPENAI_API_KEY") or "none"
        engine = {
            "engine": "openai",
            "engine_options": {"url": options.endpoint, "api_key": key},
        }
    return EvalJob(
        model=options.model,
        adapter=options.adapter,
        native=options.native,
        formats=formats,
        formats_dirs=options.formats_dirs,
        metrics=options.metrics,
        cases=options.cases,
        limit=options.limit,
        out=options.folder,
        label="gate",
        **engine,
    )
