"""lm-evaluation-harness reads the same log-probabilities and picks the same options.

Given the same token ids, all sums agree. Given the same strings it makes other ids where a prompt
ends in a blank line: it moves the white space after a context to the answer and tokenises both at
once, so that the two line ends become two tokens before a word. A prompt that is sent to a model
ends with one token for both, and that is what is scored here. In all other formats the ids are the
same, and its sums differ by the log-probability of that white space, the same for every option.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.backends.local.backend import TransformersBackend
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.models import load
from harness.tokens.encode import encode
from tests.device import chosen_device

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
FORMATS, ITEMS = 8, 10


@dataclass(frozen=True)
class Item:
    """A four-option item in a format: our sums, and the peer's from our ids and from strings.

    ``same_ids``: whether the strings gave our ids.
    """

    format: str
    prompt: str
    right: int
    ours: tuple[float, ...]
    from_ids: tuple[float, ...]
    from_strings: tuple[float, ...]
    same_ids: bool


def split(rendered, tokenizer):
    """A rendering as strings and as ids, each split before the last answer's words."""
    words = [span for span in rendered.spans if span.kind == "content" and span.trained]
    encoded = encode(rendered, tokenizer)
    asked = [at for at, content in enumerate(encoded.content) if content]
    ids = list(encoded.ids[: asked[-1] + 1])
    return (rendered.text[: words[0].start], rendered.text[words[0].start : words[-1].end]), (
        ids[: asked[0]],
        ids[asked[0] :],
    )


@pytest.fixture(scope="module")
def items():
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="needs lm_eval")
    loaded = load("SmolLM2-135M-Instruct", dtype="float32", device=chosen_device())
    backend = TransformersBackend(loaded)
    known = load_formats()
    cases = {
        case.id: case for case in [case for case in load_cases() if len(case.choices) == 4][:ITEMS]
    }
    planned = RequestBuilder(backend, 1).build(
        list(cases.values()), known.select(known.default)[:FORMATS]
    )
    ours = {
        key: tuple(s.logprob for s in scorings)
        for batch in backend.score([item.request for item in planned])
        for key, scorings in batch
    }
    peer = huggingface.HFLM(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        batch_size=64,
        device=chosen_device(),
        add_bos_token=False,
    )
    parted = [
        split(answer, loaded.tokenizer) for item in planned for answer in item.request.answers
    ]
    own = [(strings, *ids) for strings, ids in parted]
    its = [(strings, *peer._encode_pair(*strings)) for strings, _ in parted]
    same = [a[1] + a[2] == b[1] + b[2] for a, b in zip(own, its, strict=True)]
    from_ids, from_strings = (
        [value for value, _ in peer._loglikelihood_tokens(asks, disable_tqdm=True)]
        for asks in (own, its)
    )
    found = []
    for at, item in enumerate(planned):
        part = slice(4 * at, 4 * at + 4)
        right = cases[item.case].answer
        sums = ours[item.key], tuple(from_ids[part]), tuple(from_strings[part])
        found.append(Item(item.format, parted[4 * at][0][0], right, *sums, all(same[part])))
    return found


def margins(sums):
    return [value - sums[0] for value in sums]


def pick(sums):
    return sums.index(max(sums))


def accuracies(items, sums):
    return {
        name: sum(pick(sums(item)) == item.right for item in items if item.format == name)
        for name in {item.format for item in items}
    }


def test_from_the_same_ids_it_reads_the_same_sums(items):
    assert len(items) == FORMATS * ITEMS
    for item in items:
        assert item.ours == pytest.approx(item.from_ids, abs=1e-3), item
    assert accuracies(items, lambda item: item.ours) == accuracies(
        items, lambda item: item.from_ids
    )
    assert sum(accuracies(items, lambda item: item.ours).values()) > len(items) / 4, (
        "better than guessing, so there is something to compare"
    )


def test_from_the_same_strings_it_makes_the_same_ids_but_behind_a_blank_line(items):
    assert {item.format for item in items if not item.same_ids} == {
        item.format for item in items if item.prompt.endswith("\n\n")
    }
    alike = [item for item in items if item.same_ids]
    assert len(alike) > len(items) / 2
    for item in alike:
        assert margins(item.ours) == pytest.approx(margins(item.from_strings), abs=1e-3), item
    assert accuracies(alike, lambda item: item.ours) == accuracies(
        alike, lambda item: item.from_strings
    )
