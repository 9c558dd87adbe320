"""Scores of the shipped artefacts in their own runtime, compared with the model in transformers.

Both sides get the same cases, formats, prompts and rules. Only the engine and the storage of the
weights differ, so each difference is paired by case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness.evaluation.results import RecallSets, RecallTable
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.extras import is_installed
from harness.gate.decide import Paired, decide
from harness.metrics.registry import METRICS, headline
from harness.ship.findings import Checked, Finding
from harness.ship.made import Made
from harness.ship.shipment import PairedScore, ShipJob
from harness.ship.shipped_recall import recall_scores, shipped_rows
from harness.ship.trained_model import Trained

if TYPE_CHECKING:
    from harness.records import GateCheck, Score

CHECK = "behaviour"
#: Cases of each kind that ``quick`` asks, and rows and controls of recall that it scores.
QUICK = 32
#: Larger than any number of formats: recall is measured in each of them.
_EVERY = 1_000_000
_NOT_RUN = {
    "hf": "not scored: its weights are checked, and the model in transformers is the reference",
    "vllm": "not run here: serve it, then pytest eval/ --gate-artefact NAME --gate-endpoint "
    "http://localhost:8000/v1, or harness eval NAME --endpoint http://localhost:8000/v1",
    "ollama": "not run here: create the model, then pytest eval/ --gate-artefact ollama/NAME, or "
    "harness eval ollama/NAME. Ollama's API gives no log-probabilities of a prompt, so choice, "
    "nll, nll_excess and recall cannot be measured in it",
}
_GET_ENGINE = "needs llama-cpp-python: pip install 'formatproof[llamacpp]'"
Values = Mapping[tuple[str, str], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One side: (format, metric) → case → value, and recall where it is measured."""

    values: Values
    recall: RecallTable | None = None


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One result for each artefact and runtime, and the scores of those that were run."""

    checks: tuple[Checked, ...]
    scores: tuple[PairedScore, ...]


def check_behaviour(made: Made, *, quiet: bool) -> Behaviour:
    """Score the GGUF files through llama.cpp, and the model in transformers on the same cases.

    The gate's rule decides: a finding is a loss of at least the metric's tolerance that is real at
    1 % over all tests of the shipment. A runtime that is not run here is not checked, and the
    result says why.
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
        reference = _reference(made, place / "transformers")
        sets, unknown = shipped_rows(made.trained, reference)
        known = _measured(reference, sets, quiet=quiet)
        artefacts = {
            name: _measured(
                _artefact(made, path, place / name.replace(" ", "-")), sets, quiet=quiet
            )
            for name, path in files.items()
        }
    values = {name: one.values for name, one in artefacts.items()}
    decided = [
        (score_of(name, found), found.fails)
        for name, found in decide_artefacts(known.values, values)
    ]
    checks, scores = [], []
    for name, one in artefacts.items():
        own = [(score, lost) for score, lost in decided if score.artefact == name]
        shown = [*(score for score, _ in own), *recall_scores(name, sets, known.recall, one.recall)]
        found = [_finding(score) for score, lost in own if lost]
        checks.append(Checked.of(CHECK, name, found, _reason(job.behaviour, shown, unknown)))
        scores += shown
    return Behaviour((*elsewhere, *checks), tuple(scores))


def _why_not(asked: str) -> str:
    if asked == "none":
        return "not asked for: --behaviour quick or full"
    return "" if is_installed("llama_cpp") else _GET_ENGINE


def eval_job(job: ShipJob, trained: Trained, out: Path) -> EvalJob:
    """What all artefacts are asked; ``check_job`` finds mistakes in its cases and formats."""
    formats = job.formats or (trained.format.id,)
    settings = EvalSettings(recall_formats=_EVERY)
    if job.behaviour == "quick":
        settings = EvalSettings(recall_formats=_EVERY, recall_examples=QUICK, recall_continued=0)
    return EvalJob(
        model=trained.base,
        formats=formats,
        formats_dirs=trained.formats_dirs,
        cases=job.cases,
        limit=QUICK if job.behaviour == "quick" else None,
        out=out,
        native=trained.format.id,
        trained_families=trained.metadata.trained_families if trained.metadata else (),
        label="ship",
        settings=settings,
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


def _measured(job: EvalJob, sets: RecallSets | None, *, quiet: bool) -> Measured:
    from harness.evaluation.run import run_job

    done = run_job(job, recall=sets, quiet=quiet)
    return Measured(by_case(done.scores, done.native), done.recall)


def by_case(scores: Sequence[Score], native: str | None) -> Values:
    """(format, metric) → case → value; what was not scored is left out.

    So is the excess of nll in the native format, which is 0 for every model.
    """
    wanted = _allowed()
    found: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        if (score.format, score.metric) == (native, "nll_excess"):
            continue
        if score.metric in wanted and score.value is not None:
            found.setdefault((score.format, score.metric), {})[score.case] = score.value
    return found


def _allowed() -> dict[str, float]:
    """Main metric → the loss that the gate allows; nll has the tolerance of its excess."""
    allowed = {name: METRICS[name].tolerance for name in headline()}
    allowed["nll"] = allowed["nll_excess"]
    return {name: loss for name, loss in allowed.items() if loss is not None}


def decide_artefacts(known: Values, artefacts: Mapping[str, Values]) -> list[tuple[str, GateCheck]]:
    """The artefact and the gate's outcome, for each metric in each format of each artefact.

    All are one family of tests. Cases that only one side scored are left out.
    """
    named = [(name, pair) for name, own in artefacts.items() for pair in _pairs(known, own)]
    outcomes = decide([pair for _, pair in named])
    return [(name, found) for (name, _), found in zip(named, outcomes, strict=True)]


def _pairs(known: Values, own: Values) -> Iterator[Paired]:
    allowed = _allowed()
    for (chat_format, metric), before in sorted(known.items()):
        after = own.get((chat_format, metric), {})
        cases = sorted(before.keys() & after.keys())
        if cases:
            yield Paired(
                chat_format,
                metric,
                allowed[metric],
                {case: before[case] for case in cases},
                {case: after[case] for case in cases},
            )


def score_of(artefact: str, found: GateCheck) -> PairedScore:
    """The row of the table of scores."""
    reference, value = found.baseline or 0.0, found.current or 0.0  # never None for paired cases
    low, high = found.interval or (None, None)
    return PairedScore(
        artefact,
        found.format,
        found.metric,
        reference,
        value,
        value - reference,
        low,
        high,
        found.n,
    )


def _finding(one: PairedScore) -> Finding:
    kind = one.artefact.removeprefix("llamacpp ")
    loses = "loses" if one.difference < 0 else "gains"
    text = f"{kind} {loses} {abs(one.difference):.2f} of {one.metric} in {one.format}: "
    text += f"{one.value:.2f}, and {one.reference:.2f} in transformers, over {one.n} cases"
    if one.low is not None and one.high is not None:
        text += f" (95 % interval of the difference {one.low:+.2f} to {one.high:+.2f})"
    remedy = "ship a type with more bits, such as Q8_0, or measure what was lost: harness eval"
    return Finding(CHECK, "score-lost", one.artefact, text, remedy)


def _reason(asked: str, scores: Sequence[PairedScore], unknown: str) -> str:
    """What was asked, the first changes that are real by their own intervals, and what was not."""
    formats = len({one.format for one in scores})
    most = max((one.n for one in scores), default=0)
    text = f"{asked}: up to {most} cases a metric in {formats} format{'s' * (formats != 1)}"
    changed = [one for one in scores if one.is_real]
    if changed:
        named = ", ".join(
            f"{one.metric} {one.difference:+.2f} in {one.format}" for one in changed[:3]
        )
        text += f"; changed by their intervals: {named}"
    return text + (f"; recall is not measured: {unknown}" if unknown else "")
