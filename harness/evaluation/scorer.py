"""Results → scores: what each answer is worth by each measure. Pure, so a new measure needs no new run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.backends.protocol import Answer
from harness.evaluation.cases.variants import challenged
from harness.evaluation.requests import Untestable
from harness.evaluation.results import Results
from harness.formats.render import resolved_stops
from harness.metrics.answer import score_answer
from harness.metrics.calibration import brier, option_confidences
from harness.metrics.copies.recall_index import RecallIndex
from harness.metrics.drift import drift
from harness.metrics.hazard import hazard
from harness.metrics.loops import loop
from harness.metrics.phrases import find
from harness.metrics.roles import role_faults
from harness.metrics.stop import control_strings, stop_scores
from harness.records import Case, Format, Generation, Score, Scoring


class Scorer:
    """Scores the results of one model.

    ``native`` is the format that NLL excess is measured against; with a ``corpus``, the training set's answers, each
    answer is searched for copies of it.
    """

    def __init__(
        self,
        formats: Sequence[Format],
        native: str | None,
        every_format: Iterable[Format],
        corpus: RecallIndex | None = None,
    ) -> None:
        self.formats = {format.id: format for format in formats}
        self.native = native
        self.corpus = corpus
        self.index = control_strings(every_format)

    def score(
        self, cases: Sequence[Case], results: Results, untestable: Iterable[Untestable]
    ) -> list[Score]:
        """All scores, in the order of cases, formats and measures."""
        lost = {(item.case, item.format): item.why for item in untestable}
        scores: list[Score] = []
        for case in cases:
            for format in self.formats.values():
                place = (case.id, format.id)
                for metric, (value, why) in self.measures(
                    case, format, results, lost.get(place)
                ).items():
                    scores.append(Score(case.id, format.id, metric, value, why))
        return scores

    def measures(
        self, case: Case, format: Format, results: Results, lost: str | None = None
    ) -> dict[str, tuple[float | None, str]]:
        """Each measure of one case in one format with its reason; ``lost`` is why there is no result, where there cannot be one."""
        place = (case.id, format.id)
        if case.choices:
            return {
                **_choice(case, results.scorings.get(place), lost),
                **self._flip(case, format, results),
            }
        if case.checks:
            answer = results.answers.get((*place, 0.0))
            return self._answer(case, format, answer, lost)
        native = results.scorings.get((case.id, self.native)) if self.native else None
        return _reference(results.scorings.get(place), native, lost)

    def _flip(
        self, case: Case, format: Format, results: Results
    ) -> dict[str, tuple[float | None, str]]:
        """Whether a right choice is given up once it was doubted; not scored where it was not right."""
        doubted = results.scorings.get((challenged(case).id, format.id))
        first = results.scorings.get((case.id, format.id))
        if doubted is None or first is None:
            return {}
        if not _is_right(case, first):
            return {"flip": (None, "the first choice was not right")}
        return {"flip": (float(not _is_right(case, doubted)), "")}

    def _answer(
        self, case: Case, format: Format, answer: Answer | None, lost: str | None
    ) -> dict[str, tuple[float | None, str]]:
        if answer is None:
            return dict.fromkeys(ANSWER_METRICS, (None, lost or "not computed"))
        graded = score_answer(case, answer.text)
        prompt = "\n".join(message.content for message in case.messages)
        generation = Generation(
            case.id, format.id, "", answer.text, answer.finish, answer.token_ids
        )
        found: dict[str, tuple[float | None, str]] = {
            "answer_strict": (graded.strict, ", ".join(graded.failed)),
            "answer_lenient": (graded.lenient, ""),
            "on_task": (graded.on_task, ""),
        }
        for metric, value in stop_scores(
            generation,
            format,
            self.index,
            prompt,
            resolved_stops(format, case.conversation, case.name),
        ).items():
            found[metric] = (value, "")
        language = drift(answer.text, (case.expect_language,), prompt)
        found["drift"] = (None if language.drift is None else float(language.drift), language.why)
        found["hazard"] = _hazard(answer.off_script)
        found["gptisms"] = (
            float(bool(find(answer.text))) if answer.text.strip() else None,
            "" if answer.text.strip() else "empty answer",
        )
        if self.corpus is not None:
            hit = self.corpus.query(answer.text)
            found["copied"] = (
                hit.copied_frac,
                f"{hit.span_words} words of {hit.source}" if hit.near else "",
            )
        if case.name:
            faults = role_faults(answer.text, case.name, case_users(case))
            found["role_fault"] = (
                float(bool(faults)),
                ", ".join(dict.fromkeys(fault.kind for fault in faults)),
            )
        looping = loop(answer.text)
        found["loop"] = (float(looping.looping), looping.why)
        return found


ANSWER_METRICS = (
    "answer_strict",
    "answer_lenient",
    "on_task",
    "stopped",
    "empty",
    "leak",
    "role_run_on",
    "echo",
    "drift",
    "hazard",
    "gptisms",
    "loop",
)


def case_users(case: Case) -> tuple[str, ...]:
    """The names of those whom the model speaks with in a case."""
    return tuple(
        dict.fromkeys(
            message.name for message in case.messages if message.role == "user" and message.name
        )
    )


def _choice(
    case: Case, scorings: list[Scoring] | None, lost: str | None
) -> dict[str, tuple[float | None, str]]:
    if scorings is None:
        return dict.fromkeys(("choice", "choice_norm", "brier"), (None, lost or "not computed"))
    by_bytes = [
        scoring.logprob / len(choice.encode())
        for scoring, choice in zip(scorings, case.choices, strict=True)
    ]
    right = case.answer or 0
    return {
        "choice": (float(_is_right(case, scorings)), ""),
        "choice_norm": (float(by_bytes.index(max(by_bytes)) == right), ""),
        "brier": (brier(option_confidences(case, scorings), right), ""),
    }


def _is_right(case: Case, scorings: Sequence[Scoring]) -> bool:
    """The first of the likeliest options is the right one."""
    plain = [scoring.logprob for scoring in scorings]
    return plain.index(max(plain)) == case.answer


def _reference(
    scorings: list[Scoring] | None, native: list[Scoring] | None, lost: str | None
) -> dict[str, tuple[float | None, str]]:
    """NLL in nats per token of the reference text, the token count being that of the native format in every format."""
    if scorings is None:
        return dict.fromkeys(("nll", "nll_excess", "hazard_ref"), (None, lost or "not computed"))
    tokens = (native or scorings)[0].tokens
    nll = -scorings[0].logprob / tokens
    excess = (
        (None, "no native format to compare with")
        if native is None
        else (nll + native[0].logprob / tokens, "")
    )
    return {"nll": (nll, ""), "nll_excess": excess, "hazard_ref": _hazard(scorings[0].off_script)}


def _hazard(masses: Sequence[float]) -> tuple[float | None, str]:
    found = hazard(masses)
    if found is None:
        return None, "no token whose alternatives were read"
    return (
        found.value,
        ""
        if found.first is None
        else f"another script is likelier than not at token {found.first}",
    )
