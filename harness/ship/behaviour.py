"""What the shipped artefacts answer in their own runtime, beside the model in transformers.

The same cases, formats, prompts and rules on both sides; only the weights' storage and the engine
differ. So each difference is paired by case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness.evaluation.settings import EvalJob
from harness.extras import is_installed
from harness.metrics.registry import METRICS, headline
from harness.ship.findings import Checked, Finding
from harness.ship.made import Made
from harness.ship.shipment import PairedScore, ShipJob
from harness.ship.trained_model import Trained
from harness.stats.intervals import difference_interval, mean_interval
from harness.stats.paired import holm, loss_test

if TYPE_CHECKING:
    from harness.records import Score

CHECK = "behaviour"
#: Cases of each kind that ``quick`` asks.
QUICK = 32
#: All tests of a shipment together find a loss where there is none this often.
LEVEL = 0.01
_NOT_RUN = {
    "hf": "the weights are checked, and transformers is what the artefacts are compared with",
    "vllm": "not run here: serve it, then harness eval NAME --endpoint http://localhost:8000/v1",
    "ollama": "not run here, and Ollama's API gives no log-probabilities: create the model, then "
    "harness eval ollama/NAME",
}
_GET_ENGINE = "needs llama-cpp-python: pip install 'formatproof[llamacpp]'"
Values = Mapping[tuple[str, str], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One result for each artefact and runtime, and the scores of those that were run."""

    checks: tuple[Checked, ...]
    scores: tuple[PairedScore, ...]


def check_behaviour(made: Made, *, quiet: bool) -> Behaviour:
    """Score the GGUF files through llama.cpp, and the model in transformers on the same cases.

    A finding is a loss of at least the metric's own tolerance that is real at 1 % over all tests of
    the shipment (Holm). Runtimes that are not run here are not checked, each with its reason.
    """
    job = made.job
    elsewhere = [
        Checked.not_checked(CHECK, runtime, _NOT_RUN[runtime])
        for runtime in job.to
        if runtime in _NOT_RUN
    ]
    files = {f"llamacpp {kind}": path for kind, path in made.gguf.items()}
    reason = _why_not(job.behaviour)
    if reason or not files:
        skipped = [Checked.not_checked(CHECK, name, reason) for name in files]
        return Behaviour((*elsewhere, *skipped), ())
    with TemporaryDirectory() as folder:
        place = Path(folder)
        known = _values(_reference(made, place / "transformers"), quiet=quiet)
        scores = []
        for name, path in files.items():
            own = _values(_artefact(made, path, place / name.replace(" ", "-")), quiet=quiet)
            scores += [*paired_scores(name, known, own)]
    losses = real_losses(scores)
    shown = tuple(one for one, _ in scores)
    checks = [
        Checked.of(
            CHECK,
            name,
            [_finding(one) for one in losses if one.artefact == name],
            _reason(job.behaviour, [one for one in shown if one.artefact == name]),
        )
        for name in files
    ]
    return Behaviour((*elsewhere, *checks), shown)


def _why_not(asked: str) -> str:
    if asked == "none":
        return "not asked for: --behaviour quick or full"
    return "" if is_installed("llama_cpp") else _GET_ENGINE


def eval_job(job: ShipJob, trained: Trained, out: Path) -> EvalJob:
    """What all artefacts are asked; ``check_job`` finds mistakes in its cases and formats."""
    return EvalJob(
        model=trained.base,
        formats=job.formats or (trained.format.id,),
        formats_dirs=trained.formats_dirs,
        cases=job.cases,
        limit=QUICK if job.behaviour == "quick" else None,
        out=out,
        native=trained.format.id,
        label="ship",
    )


def _reference(made: Made, out: Path) -> EvalJob:
    """The base with its adapter, as it was trained, in transformers."""
    trained, job = made.trained, made.job
    adapter = str(trained.adapter) if trained.adapter else None
    return replace(
        eval_job(job, trained, out),
        adapter=adapter,
        quantisation=trained.stored,
        device=job.device,
        engine="local",
    )


def _artefact(made: Made, file: Path, out: Path) -> EvalJob:
    """A GGUF file in llama.cpp, with the tokenizer of the shipped folder."""
    options = {"tokenizer": str(made.model.path)}
    return replace(
        eval_job(made.job, made.trained, out),
        model=str(file),
        engine="llamacpp",
        engine_options=options,
    )


def _values(job: EvalJob, *, quiet: bool) -> Values:
    """(format, metric) → case → value, of the main metrics and nll."""
    from harness.evaluation.run import run_job

    return by_case(run_job(job, quiet=quiet).scores)


def by_case(scores: Sequence[Score]) -> Values:
    """(format, metric) → case → value; what was not scored is left out."""
    wanted = {*headline(), "nll"} - {"nll_excess"}  # 0 in the format that is shipped
    found: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        if score.metric in wanted and score.value is not None:
            found.setdefault((score.format, score.metric), {})[score.case] = score.value
    return found


def paired_scores(
    name: str, known: Values, own: Values
) -> Iterator[tuple[PairedScore, list[float]]]:
    """Each metric in each format that both sides have, with its differences case by case."""
    for (chat_format, metric), before in sorted(known.items()):
        after = own.get((chat_format, metric), {})
        cases = sorted(before.keys() & after.keys())
        if not cases:
            continue
        differences = [after[case] - before[case] for case in cases]
        binary = METRICS[metric].binary
        interval = difference_interval(differences) if binary else mean_interval(differences)
        count = len(cases)
        yield (
            PairedScore(
                name,
                chat_format,
                metric,
                sum(before[case] for case in cases) / count,
                sum(after[case] for case in cases) / count,
                sum(differences) / count,
                interval.low,
                interval.high,
                count,
            ),
            differences,
        )


def real_losses(scores: Sequence[tuple[PairedScore, list[float]]]) -> list[PairedScore]:
    """Those that lost at least their metric's tolerance, more than chance explains."""
    tested = [(one, -1 if METRICS[one.metric].better == "lower" else 1, d) for one, d in scores]
    adjusted = holm([loss_test([sign * value for value in values]) for _, sign, values in tested])
    return [
        one
        for (one, sign, _), p in zip(tested, adjusted, strict=True)
        if p < LEVEL
        and (allowed := _tolerance(one.metric)) is not None
        and -sign * one.difference >= allowed
    ]


def _tolerance(metric: str) -> float | None:
    """The gate's; that of the excess for nll, which the gate records only."""
    return METRICS["nll_excess" if metric == "nll" else metric].tolerance


def _finding(one: PairedScore) -> Finding:
    kind = one.artefact.removeprefix("llamacpp ")
    loses = "loses" if one.difference < 0 else "gains"
    text = f"{kind} {loses} {abs(one.difference):.2f} of {one.metric} in {one.format}: "
    text += f"{one.value:.2f}, and {one.reference:.2f} in transformers, over {one.n} cases"
    if one.low is not None and one.high is not None:
        text += f" (95 % interval of the difference {one.low:+.2f} to {one.high:+.2f})"
    remedy = "ship a type with more bits, such as Q8_0, or measure what was lost: harness eval"
    return Finding(CHECK, "score-lost", one.artefact, text, remedy)


def _reason(asked: str, scores: Sequence[PairedScore]) -> str:
    """What was asked, and the largest change that is real by its own interval."""
    formats = len({one.format for one in scores})
    most = max((one.n for one in scores), default=0)
    text = f"{asked}: up to {most} cases a metric in {formats} format{'s' * (formats != 1)}"
    changed = [one for one in scores if one.is_real]
    if changed:
        named = ", ".join(
            f"{one.metric} {one.difference:+.2f} in {one.format}" for one in changed[:3]
        )
        text += f"; changed by their intervals: {named}"
    return text
