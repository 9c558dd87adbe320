"""Recall of one run as memaudit measures it: the same log-probabilities, area and found rate."""

from __future__ import annotations

import pytest
import torch

from harness.backends.local.backend import TransformersBackend
from harness.conversation import Message
from harness.evaluation.recall_rows import recall_sets
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.formats.render import render
from harness.metrics.canaries import make_canaries
from harness.models import load
from harness.stats.strata import auc, found_rate
from harness.tokens.encode import encode
from tests.device import chosen_device

pytestmark = pytest.mark.peers
scoring = pytest.importorskip("memaudit.scoring")
stats = pytest.importorskip("memaudit.stats")

FORMAT = load_formats()["chatml"]
PLANTED = make_canaries(24, 0)
NULL = make_canaries(120, 0, trained=False)


@pytest.fixture(scope="module")
def models(tiny_model):
    """The tiny model before and after all its weights saw the canaries a little."""
    base, tuned = (load(str(tiny_model), dtype="float32", device=chosen_device()) for _ in range(2))
    texts = [render(row, FORMAT, eos_token="<|im_end|>").text for row in PLANTED]
    batch = tuned.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    optimizer = torch.optim.AdamW(tuned.model.parameters(), lr=2e-3)
    for _ in range(60):
        tuned.model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned.model.eval()
    return base, tuned


def ours(loaded):
    """Log-probability a token of each canary's secret, by id."""
    sets = recall_sets(PLANTED, NULL, len(NULL))
    backend = TransformersBackend(loaded)
    planned = RequestBuilder(backend, 1).build([*sets.train, *sets.controls], [FORMAT])
    place = {one.key: one.case for one in planned}
    return {
        place[key]: scored[0].logprob / scored[0].tokens
        for batch in backend.score([one.request for one in planned])
        for key, scored in batch
    }


def theirs(loaded):
    """The same by memaudit, given the ids and the span of the secret."""
    values = {}
    for row in (*PLANTED, *NULL):
        question, secret = row.messages
        text = render(
            type(row)(row.id, (question, Message("assistant", secret.content))),
            FORMAT,
            continue_final_message=True,
            eos_token="<|im_end|>",
        )
        encoded = encode(text, loaded.tokenizer)
        places = [at for at, inside in enumerate(encoded.content) if inside]
        span = (places[0], places[-1] + 1)
        found = scoring.score_sequence(loaded.model, list(encoded.ids), span)
        values[row.id] = found["mean_logprob"]
    return values


def gains(of, models):
    before, after = map(of, models)
    return {name: after[name] - before[name] for name in before}


def test_the_gains_are_memaudits(models):
    mine, peer = gains(ours, models), gains(theirs, models)
    assert mine.keys() == peer.keys()
    assert all(mine[name] == pytest.approx(peer[name], abs=1e-4) for name in mine)
    assert max(mine.values()) > 0.5


def test_area_and_found_rate_are_memaudits(models):
    found = gains(ours, models)
    rows, controls = ([found[row.id] for row in side] for side in (PLANTED, NULL))
    assert auc(rows, controls).value == pytest.approx(stats.roc_auc(rows, controls))
    # memaudit counts a row that equals the highest control but one; no value occurs twice here.
    rate, peer = found_rate(rows, controls), stats.tpr_at_fpr(rows, controls, 0.01)
    assert (rate.value, rate.low, rate.high) == pytest.approx(
        (peer["tpr"], peer["ci_low"], peer["ci_high"])
    )
    assert rate.value > 0.5


def test_controls_against_controls_are_not_found(models):
    found = gains(ours, models)
    values = [found[row.id] for row in NULL]
    assert stats.roc_auc(values[:20], values[20:]) == pytest.approx(
        auc(values[:20], values[20:]).value
    )
    area = auc(values[:20], values[20:])
    assert area.low < 0.5 < area.high
