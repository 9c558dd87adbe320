"""Canaries that a model was trained on are exposed, and those that were left out are not."""

from __future__ import annotations

import json

import pytest
import torch

from harness.backends.local.backend import TransformersBackend
from harness.conversation import Message
from harness.data.controls import possible_controls
from harness.data.conversations import as_row, load_conversations
from harness.evaluation.recall_rows import recall_sets, recall_sets_of
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalJob, EvalSettings
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from harness.formats.render import render
from harness.metrics.canaries import make_canaries
from harness.models import load
from harness.records import Case
from tests.device import chosen_device
from tests.training.small import ROWS, write_rows

PLANTED = make_canaries(8, 0)
NULL = make_canaries(63, 0, trained=False)
FORMATS = load_formats().select(("chatml", "alpaca-newline"))
STEPS = 150


@pytest.fixture(scope="module")
def loaded(tiny_model):
    """The tiny model after all its weights saw the canaries in one format.

    A LoRA adapter on random weights learns nothing by heart.
    """
    torch.manual_seed(0)
    loaded = load(str(tiny_model), dtype="float32", device=chosen_device())
    texts = [render(row, FORMATS[0], eos_token="<|im_end|>").text for row in PLANTED]
    batch = loaded.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    batch = batch.to(loaded.device)
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        loaded.model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    loaded.model.eval()
    return loaded


def exposures(loaded, folder, secrets):
    """Exposure by format, in bits, of some secrets against others that were never trained on."""
    with Store(folder / "results.sqlite") as store:
        table = evaluate(
            TransformersBackend(loaded),
            [Case("1", (Message("user", "q"),), reference="a")],
            FORMATS,
            dict.fromkeys((each.id for each in FORMATS), "seen"),
            None,
            store,
            EvalSettings(recall_examples=len(NULL), max_new_tokens=1),
            recall=recall_sets(secrets, NULL, len(NULL)),
            quiet=True,
        ).recall
    return {row.format: row for row in table.rows if row.metric == "exposure"}


def test_planted_canaries_are_exposed_in_each_format(loaded, tmp_path):
    found = exposures(loaded, tmp_path, PLANTED)
    assert set(found) == {"all formats", *(each.id for each in FORMATS)}
    trained = found["chatml"]
    assert trained.train > 5  # of six bits
    assert trained.null == pytest.approx(1.44, abs=0.4) and trained.low > 3


def test_canaries_that_were_left_out_are_not(loaded, tmp_path):
    found = exposures(loaded, tmp_path, make_canaries(40, 1))["chatml"]
    assert found.train == pytest.approx(1.44, abs=0.7) and found.low < 0 < found.high


def test_canaries_are_no_controls_and_no_rows_of_the_general_recall(tmp_path):
    lines = "".join(json.dumps(as_row(row)) + "\n" for row in PLANTED)
    (tmp_path / "planted.jsonl").write_text(lines)
    files = (str(tmp_path / "planted.jsonl"), str(write_rows(tmp_path, ROWS)))
    own = {f"rows-{n}" for n in range(1, len(ROWS) + 1)}
    assert {row.id for row in possible_controls(load_conversations(files))} == own
    assert {case.id for case in recall_sets_of(EvalJob("model", train=files)).train} == own
