"""Evaluations from given scores, without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from harness.conversation import Message
from harness.evaluation.aggregate import aggregate_scores
from harness.evaluation.results import Evaluation, Results
from harness.evaluation.settings import EvalSettings
from harness.metrics.registry import METRICS
from harness.records import Case, Check, Format, Group, Score

Values = Mapping[tuple[str, str], Sequence[float | None]]
KINDS = {"choice": "choice", "choice_norm": "choice", "nll": "reference", "nll_excess": "reference"}


def build_evaluation(
    values: Values,
    *,
    native: str | None = None,
    digests: Mapping[str, str] | None = None,
    groups: Mapping[str, Group] | None = None,
    texts: Mapping[str, str] | None = None,
    prefix: str = "",
    why: str = "",
    model: str = "sha256:m",
    environment: Mapping[str, str] | None = None,
    settings: EvalSettings | None = None,
    formats: Sequence[str] = (),
) -> Evaluation:
    """(format, metric) → one value per case, None for not scored; cases are ``answer-000``, …."""
    counts: dict[str, int] = {}
    for (_, metric), column in values.items():
        assert metric in METRICS
        kind = KINDS.get(metric, "answer")
        counts[kind] = max(counts.get(kind, 0), len(column))
    cases = {
        f"{prefix}{kind}-{index:03}": kind
        for kind, count in counts.items()
        for index in range(count)
    }
    ids = list(dict.fromkeys([*formats, *(format_id for format_id, _ in values)]))
    group_of: dict[str, Group] = {
        format_id: (groups or {}).get(format_id, "native" if format_id == native else "held-out")
        for format_id in ids
    }
    scores = [
        Score(
            f"{prefix}{KINDS.get(metric, 'answer')}-{index:03}",
            format_id,
            metric,
            value,
            why if value is None else "",
        )
        for (format_id, metric), column in values.items()
        for index, value in enumerate(column)
    ]
    return Evaluation(
        label="gate",
        model="tiny",
        adapter=None,
        fingerprint={
            "backend": "fake-1",
            "dtype": "float32",
            "device": "cpu",
            **(environment or {}),
            "model": model,
            "adapter": "",
        },
        formats=tuple(
            Format(name, name, "{{ messages }}", (), (digests or {}).get(name, f"d-{name}"))
            for name in ids
        ),
        groups=group_of,
        native=native,
        cases=tuple(
            _case(case_id, kind, (texts or {}).get(case_id, "what?"))
            for case_id, kind in cases.items()
        ),
        requests=(),
        results=Results({}, {}),
        scores=tuple(scores),
        aggregates=tuple(aggregate_scores(scores, group_of)),
        untestable=(),
        settings=settings or EvalSettings(),
        computed=0,
    )


def _case(case_id: str, kind: str, text: str) -> Case:
    given: dict[str, Any] = {
        "choice": {"choices": ("yes", "no"), "answer": 0},
        "answer": {"checks": (Check("contains", "yes"),)},
        "reference": {"reference": "yes."},
    }[kind]
    return Case(case_id, (Message("user", text),), **given)


@pytest.fixture(scope="session")
def make_evaluation() -> Callable[..., Evaluation]:
    """The builder above, for tests that cannot import a conftest."""
    return build_evaluation
