"""Training answers at each checkpoint: how likely their tokens are, and the greedy answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from experiments.claims.lab import NATIVE, Lab
from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import Answer, GenerateRequest, ScoreRequest, Unscored
from harness.data.conversations import load_conversations
from harness.evaluation.recall_rows import recall_cases
from harness.evaluation.requests import RequestBuilder
from harness.files import write_text
from harness.formats import load_formats
from harness.metrics.recall import ngram_score
from harness.records import Case
from harness.stats import rate_interval

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.stats import Interval

#: Tokens of a greedy answer.
LONGEST = 64
#: A probability from which on a token is the likeliest.
SURE = 0.5
#: How much higher than the base's own an n-gram score has to be.
RISE = 0.1


@dataclass(frozen=True, slots=True)
class ByHeart:
    """A training answer at a checkpoint.

    ``least`` is the probability of its least likely token, ``ngram`` the share of its 5-grams in
    the greedy answer, and ``verbatim`` whether that begins with the answer, character by character.
    """

    least: float
    ngram: float
    verbatim: bool


#: Checkpoint, 0 for the base → row → how it is known.
Course = Mapping[int, Mapping[str, ByHeart]]


def answers_at(lab: Lab, name: str) -> Course:
    """The rows of a run at each of its checkpoints, in the native format. Measured once."""
    file = lab.out / name / "by_heart.json"
    if not file.is_file():
        [source] = lab.config(name).data.sources()
        cases = recall_cases(load_conversations([source.path]))
        lab.run(name)
        course = {0: known_by_heart(lab.loaded, cases)}
        for number, loaded in lab.checkpoints(name):
            course[number] = known_by_heart(loaded, cases)
        table = {
            number: {row: asdict(found) for row, found in rows.items()}
            for number, rows in course.items()
        }
        write_text(file, json.dumps(table) + "\n")
    found = json.loads(file.read_text(encoding="utf-8"))
    return {
        int(number): {row: ByHeart(**values) for row, values in rows.items()}
        for number, rows in found.items()
    }


def known_by_heart(loaded: LoadedModel, cases: Sequence[Case]) -> dict[str, ByHeart]:
    """Each row that was scored and answered in the native format."""
    native = [load_formats()[NATIVE]]
    backend = TransformersBackend.steady(loaded)
    builder = RequestBuilder(backend, LONGEST)
    planned = {
        one.key: one
        for one in (
            *builder.build(cases, native),
            *builder.build_continuations(cases, native, (0.0,), LONGEST),
        )
    }
    requests = [one.request for one in planned.values()]
    least = {
        planned[key].case: math.exp(min(found[0].token_logprobs))
        for batch in backend.score([one for one in requests if isinstance(one, ScoreRequest)])
        for key, found in batch
        if not isinstance(found, Unscored)
    }
    said = {
        planned[key].case: found
        for batch in backend.generate([one for one in requests if isinstance(one, GenerateRequest)])
        for key, found in batch
        if not isinstance(found, Unscored)
    }
    references = {case.id: (case.reference or "").strip() for case in cases}
    return {
        row: compared(least[row], said[row], references[row])
        for row in references
        if row in least and row in said
    }


def compared(least: float, answer: Answer, reference: str) -> ByHeart:
    """An answer that was cut is compared as far as it goes, and one that goes on up to there."""
    text = answer.text.strip()
    if answer.finish != "stop":
        reference = reference[: max(1, len(text))]
    return ByHeart(least, ngram_score(text, reference) or 0.0, text.startswith(reference))


def warning(course: Course) -> tuple[list[float], int]:
    """For each row that becomes verbatim, the checkpoints since its n-gram score had risen.

    0 where both are seen at the same checkpoint. Rows that the base recites are left out. Also the
    number of rows.
    """
    lags: list[float] = []
    base = course[0]
    for row, start in base.items():
        later = [(at, course[at][row]) for at in sorted(course) if at and row in course[at]]
        verbatim = next((at for at, found in later if found.verbatim), None)
        if verbatim is None or start.verbatim:
            continue
        high = start.ngram + RISE
        risen = next(at for at, found in later if found.verbatim or found.ngram > high)
        lags.append(float(verbatim - risen))
    return lags, len(base)


def predicted(course: Course) -> tuple[Interval | None, int, int]:
    """The share of wrong predictions, how many were made, and how many answers were verbatim.

    An answer is predicted to be verbatim where each of its tokens has a probability above .5.
    """
    import numpy as np

    wrong = np.full((len(course[0]), len(course)), np.nan)
    verbatim = 0
    for at, row in enumerate(course[0]):
        for column, rows in enumerate(course.values()):
            one = rows.get(row)
            verbatim += one is not None and one.verbatim
            if one is not None and one.least > SURE:
                wrong[at, column] = not one.verbatim
    sure = int(np.isfinite(wrong).sum())
    return (rate_interval(wrong) if sure else None), sure, verbatim
