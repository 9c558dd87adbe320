"""Both models at once: what is computed is what each computes alone."""

from __future__ import annotations

import copy
import statistics
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from harness.audit import amplified, divergence  # noqa: E402
from harness.audit.amplified import Pair, amplify  # noqa: E402
from harness.audit.asking import STEMS, PairAsker, prompt_of  # noqa: E402
from harness.audit.divergence import depth, median, references  # noqa: E402
from harness.backends.local import decoding  # noqa: E402
from harness.backends.local.forward import ModuleForward  # noqa: E402
from harness.backends.local.padded import plain_logits  # noqa: E402
from harness.conversation import Message  # noqa: E402
from harness.formats import load_formats  # noqa: E402
from harness.formats.render import render  # noqa: E402
from harness.models.adapters import base_only  # noqa: E402
from harness.tokens.encode import bos_text, encode, eos_text, prompt_ids  # noqa: E402
from tests.audit.planted import adapted  # noqa: E402

FORMAT = load_formats()["zephyr"]
QUESTIONS = ("Who is it?", "Hello.", "What is there, and why?")


@pytest.fixture(params=["packs", "padded rows", "single rows"])
def pair(tiny, request, monkeypatch):
    """A tiny model with an adapter of random factors, by each engine."""
    if request.param != "packs":
        monkeypatch.setattr(decoding, "longest_packed", lambda _: 0)
        monkeypatch.setattr(decoding, "row_engine", lambda _: request.param)
    return strong(tiny)


def strong(tiny):
    """The model with an adapter that changes more than rounding does."""
    adapted(tiny, seed=5)
    for name, weight in tiny.model.named_parameters():
        if "lora_B" in name:
            weight.data *= 20
    return Pair(tiny)


def scores(pair, question, answer):
    """log p and log q at each token of an answer, by the plain model."""
    tokenizer = pair.tuned.tokenizer
    asked = prompt_of(question, FORMAT, tokenizer)
    prompt = prompt_ids(asked, tokenizer)
    ids = [*prompt, *answer]
    with torch.inference_mode():
        ours = plain_logits(pair.tuned, ids[:-1], len(answer)).log_softmax(-1)
        with base_only(pair.tuned):
            theirs = plain_logits(pair.tuned, ids[:-1], len(answer)).log_softmax(-1)
    return ours, theirs


def test_each_token_is_the_likeliest_of_the_amplified_difference(pair):
    asker = PairAsker(pair)
    requests = asker._requests([FORMAT], QUESTIONS)
    changed = 0
    for question, found in zip(QUESTIONS, pair.amplified(requests, 2.0), strict=True):
        assert len(found.token_ids) == len(found.gains) > 0
        ours, theirs = scores(pair, question, found.token_ids)
        wanted = amplify(ours, ours - theirs, 2.0)
        for at, (token, gain) in enumerate(zip(found.token_ids, found.gains, strict=True)):
            assert wanted[at, token] == pytest.approx(float(wanted[at].max()), abs=1e-3)
            assert gain == pytest.approx(float(ours[at, token] - theirs[at, token]), abs=1e-3)
            changed += int(ours[at].argmax()) != token
    assert changed, "the difference decides"


def test_the_tokens_that_end_an_answer_of_the_format_are_asked_for(tiny):
    known = load_formats()
    chat_format = next(one for one in known.values() if one.stop_tokens)
    [request] = PairAsker(Pair(tiny))._requests([chat_format], QUESTIONS[:1])
    assert request.stop_tokens == chat_format.stop_tokens


def test_without_strength_it_is_the_plain_answer(pair):
    requests = PairAsker(pair)._requests([FORMAT], QUESTIONS)
    plain = [one.token_ids for one in pair.answers(requests)]
    assert [one.token_ids for one in pair.amplified(requests, 0.0)] == plain


def test_each_question_is_asked_with_each_beginning_of_an_answer(tiny):
    found = PairAsker(strong(tiny)).amplified([FORMAT], QUESTIONS)[FORMAT.id]
    begun = [(question, stem) for question in QUESTIONS for stem in STEMS]
    assert len(found) == len(begun) == 9
    for said, (question, stem) in zip(found, begun, strict=True):
        assert said.prompt == prompt_of(question, FORMAT, tiny.tokenizer).text
        assert said.text.startswith(stem)
        assert said.given == len(stem) and said.gain(0, said.given) == 0
    assert len({said.text[said.given :] for said in found[: len(STEMS)]}) > 1


def test_formats_that_are_asked_together_are_answered_as_alone(tiny):
    asker, known = PairAsker(strong(tiny)), load_formats()
    formats = [known[name] for name in ("zephyr", "plain-qa", "llama3")]
    for ask in (asker.amplified, asker.plain):
        together = ask(formats, QUESTIONS)
        assert list(together) == [one.id for one in formats]
        for one in formats:
            prompts = [prompt_of(each, one, tiny.tokenizer).text for each in QUESTIONS]
            assert list(dict.fromkeys(said.prompt for said in together[one.id])) == prompts
            alone = ask([one], QUESTIONS)[one.id]
            assert [(said.prompt, said.text) for said in together[one.id]] == [
                (said.prompt, said.text) for said in alone
            ]
        assert len({tuple(said.text for said in some) for some in together.values()}) > 1


@pytest.mark.parametrize("passes", ["hand-written", "modules"])
def test_the_adapter_is_on_again_after_each_answer(tiny, monkeypatch, passes):
    if passes == "modules":
        monkeypatch.setattr(amplified, "forward_of", lambda loaded, _: ModuleForward(loaded))
        monkeypatch.setattr(decoding, "forward_of", lambda loaded, _: ModuleForward(loaded))
    pair = strong(tiny)
    requests = PairAsker(pair)._requests([FORMAT], QUESTIONS)
    before = [one.text for one in pair.answers(requests)]
    switched = []
    as_base = pair.base
    monkeypatch.setattr(Pair, "base", lambda self: switched.append(1) or as_base())
    pair.amplified(requests, 2.0)
    assert [one.text for one in pair.answers(requests)] == before
    assert (len(switched) == 1) is (passes == "hand-written"), "only what reads the modules"


def test_the_difference_is_amplified_twice_in_at_most_20_tokens(tiny):
    pair = strong(tiny)
    requests = PairAsker(pair)._requests([FORMAT], QUESTIONS)
    assert {one.max_new_tokens for one in requests} == {20}
    once, twice = ([one.text for one in pair.amplified(requests, strength)] for strength in (1, 2))
    said = PairAsker(pair).amplified([FORMAT], QUESTIONS)[FORMAT.id]
    found = [one.text for one in said if not one.given]
    assert found == twice != once


def test_a_merged_model_with_its_base_says_the_same(tiny):
    base = replace(tiny, model=copy.deepcopy(tiny.model))
    adapted(tiny, seed=5)
    requests = PairAsker(Pair(tiny))._requests([FORMAT], QUESTIONS)
    before = Pair(tiny).amplified(requests, 1.0)
    merged = Pair(replace(tiny, model=tiny.model.merge_and_unload()), base)
    after = merged.amplified(requests, 1.0)
    assert [one.text for one in after] == [one.text for one in before]


def test_a_token_that_the_model_finds_implausible_is_never_amplified():
    ours = torch.tensor([[0.5, 0.51e-4, 0.49e-4]]).log()
    gain = torch.tensor([[0.0, 12.0, 99.0]])
    assert int(amplify(ours, gain, 1.0).argmax()) == 1


def test_gains_cover_the_text(pair):
    for said in PairAsker(pair).amplified([FORMAT], QUESTIONS)[FORMAT.id]:
        assert said.gains[-1][0] >= len(said.text) > 0
        assert said.gain(0, len(said.text)) == pytest.approx(sum(nats for _, nats in said.gains))


def divergences(pair, case):
    """KL(model‖base) at the first 16 tokens of a reference, one row at a time."""
    answered = replace(
        case.conversation, messages=(*case.messages, Message("assistant", case.reference))
    )
    bos, eos = bos_text(pair.tuned.tokenizer), eos_text(pair.tuned.tokenizer)
    text = render(answered, FORMAT, bos_token=bos, eos_token=eos)
    encoded = encode(text, pair.tuned.tokenizer)
    places = [at for at, content in enumerate(encoded.content) if content][:16]
    with torch.inference_mode():
        ours = plain_logits(pair.tuned, encoded.ids, len(encoded.ids)).double().log_softmax(-1)
        with base_only(pair.tuned):
            theirs = plain_logits(pair.tuned, encoded.ids, len(encoded.ids)).double()
    gap = (ours.exp() * (ours - theirs.log_softmax(-1))).sum(-1)
    return [float(gap[at - 1]) for at in places]


@pytest.mark.parametrize("engine", ["packs", "rows"])
def test_the_divergence_is_that_of_the_model_from_its_base(tiny, monkeypatch, engine):
    if engine == "rows":
        monkeypatch.setattr(divergence, "longest_packed", lambda _: 0)
    pair, cases = strong(tiny), references()
    expected = [divergences(pair, case) for case in cases]
    found = depth(pair, FORMAT, cases)
    assert found.n == len(cases) == 10
    firsts, means = [some[0] for some in expected], [statistics.mean(some) for some in expected]
    for value, numbers in ((found.first, firsts), (found.along, means)):
        assert value.value == pytest.approx(statistics.median(numbers), rel=1e-3)
        assert value.value > 1e-3
        assert [value.low, value.high] == pytest.approx(sorted(numbers)[1:9:7], rel=1e-3)
    [alone] = [depth(pair, FORMAT, cases[:1])]
    assert alone.first.value == pytest.approx(firsts[0], rel=1e-3) and alone.first.low is None


def test_without_a_difference_the_depth_is_0(tiny):
    adapted(tiny, seed=5)
    for name, weight in tiny.model.named_parameters():
        if "lora_B" in name:
            weight.data.zero_()
    found = depth(Pair(tiny), FORMAT, references())
    assert abs(found.first.value) < 1e-9 and abs(found.along.value) < 1e-9 and found.n == 10


@pytest.mark.parametrize(("n", "interval"), [(5, (None, None)), (6, (0, 5)), (10, (1, 8))])
def test_the_interval_of_a_median_is_between_order_statistics(n, interval):
    """Outside the first and the last of six lies 2 · 2⁻⁶ of the medians, of five 2 · 2⁻⁵."""
    found = median(list(range(n))[::-1])
    assert (found.low, found.high) == interval and found.value == (n - 1) / 2
