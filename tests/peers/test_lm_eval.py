"""lm-evaluation-harness tells options apart by the same margins and picks the same ones, given the same items as the same strings.

It counts the white space that a context ends with to the answer, the same amount for every option: so margins are compared. Formats
whose prompt ends in a blank line are left out: it tokenises prompt and answer at once, which is not what inference sends.
"""

from __future__ import annotations

import pytest

from harness.backends.transformers import TransformersBackend
from harness.evaluate.cases import load_cases
from harness.evaluate.work import Planner
from harness.formats import load_formats
from harness.models import load

pytestmark = pytest.mark.peers
FORMATS = ("chatml", "alpaca-newline", "vicuna-v1.1")
ITEMS = 10


def split(rendered):
    """A rendering as context and continuation: the last answer's words are what is asked for."""
    words = [span for span in rendered.spans if span.kind == "content" and span.trained]
    return rendered.text[: words[0].start], rendered.text[words[0].start : words[-1].end]


@pytest.mark.filterwarnings("ignore")
def test_the_same_accuracy_in_every_format():
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="needs lm_eval")
    from lm_eval.api.instance import Instance

    loaded = load("SmolLM2-135M-Instruct", dtype="float32", device="cpu")
    backend = TransformersBackend(loaded)
    cases = [case for case in load_cases() if len(case.choices) == 4][:ITEMS]
    work = Planner(backend, 1).plan(cases, load_formats().select(FORMATS))
    ours = {key: [s.logprob for s in scorings] for batch in backend.score([item.request for item in work]) for key, scorings in batch}
    peer = huggingface.HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=16, device="cpu", add_bos_token=False)
    asks = [Instance("loglikelihood", {}, split(answer), at) for at, answer in enumerate(a for item in work for a in item.request.answers)]
    theirs = [value for value, _ in peer.loglikelihood(asks, disable_tqdm=True)]
    right = {case.id: case.answer for case in cases}
    accuracy = {format: [0, 0] for format in FORMATS}
    for at, item in enumerate(work):
        own, other = ours[item.key], theirs[4 * at : 4 * at + 4]
        assert [value - own[0] for value in own] == pytest.approx([value - other[0] for value in other], abs=1e-3)
        accuracy[item.format][0] += own.index(max(own)) == right[item.case]
        accuracy[item.format][1] += other.index(max(other)) == right[item.case]
    assert all(mine == other for mine, other in accuracy.values()), accuracy
    assert sum(mine for mine, _ in accuracy.values()) > len(FORMATS) * ITEMS / 4, "better than guessing, so there is something to compare"
