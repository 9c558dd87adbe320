"""Which format was trained in: planted in the factors of an adapter, with controls."""

from __future__ import annotations

import copy
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from harness.audit import guess as guess_module
from harness.audit import probes
from harness.audit.changes import LowRank, adapter_changes, outside_attention
from harness.audit.guess import CLEAR, Candidate, families_of, guess_format
from harness.audit.probes import AskedFormats, ask_in
from harness.cli.guess import lines
from harness.conversation import Message
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import kind_of, load_cases
from harness.formats import load_formats
from harness.records import Case
from tests.audit.planted import adapted, planted

FORMATS = load_formats().select(("common",))


@pytest.fixture
def found(tiny):
    adapted(tiny, seed=1)
    return lambda wanted, strength=4.0: guess_format(
        tiny, planted(tiny, FORMATS, wanted, strength), FORMATS
    )


@pytest.mark.parametrize("wanted", ["llama3", "alpaca-newline", "chatml", "mistral-v1", "xml-tags"])
def test_the_format_that_an_adapter_knows_is_found(found, wanted):
    candidates = found(wanted)
    families = families_of(candidates)
    assert candidates[0].formats[0] == families[0].format == wanted
    assert families[0].probability > 1.4 * CLEAR
    assert sum(one.probability for one in families) == pytest.approx(1)


def test_the_less_it_knows_it_the_less_sure_is_the_guess(found):
    sure = [families_of(found("llama3", strength))[0].probability for strength in (0.3, 1, 4)]
    assert sure == sorted(sure) and sure[0] < 0.9 * sure[2]


@pytest.mark.parametrize("seed", range(5))
def test_random_factors_prefer_no_format(tiny, seed):
    adapted(tiny, seed=seed)
    first = families_of(guess_format(tiny, adapter_changes(tiny), FORMATS))[0]
    assert first.probability < CLEAR


def test_the_adapter_is_off_while_the_base_is_asked(tiny):
    """Inputs with the adapter on would differ from layer to layer with what it does."""
    adapted(tiny, seed=1)
    changes = adapter_changes(tiny)
    before = guess_format(tiny, changes, FORMATS)
    for name, weight in tiny.model.named_parameters():
        if "lora_B" in name:
            weight.data *= 100
    assert guess_format(tiny, changes, FORMATS) == before


def test_formats_that_ask_alike_are_one_candidate(tiny):
    known = load_formats().select(("chatml", "hermes", "alpaca-newline", "dolly-v2", "raw"))
    asked = {one.formats: one for one in ask_in(known, tiny.tokenizer, native="hermes")}
    assert ("alpaca-newline", "dolly-v2") in asked
    assert any(names[0] == "hermes" for names in asked) and not any("raw" in n for n in asked)
    assert {len(one.prompts) for one in asked.values()} == {3}


def test_a_family_counts_by_its_best_format_alone(found):
    """Not by their number: a family of nineteen is not likelier than one of two."""
    candidates = found("llama3")
    per_family = Counter(one.family for one in candidates if one.probability > 0)
    assert set(per_family.values()) == {1}
    best = {}
    for one in candidates:
        best.setdefault(one.family, one.response)
    assert all(one.probability == 0 or best[one.family] == one.response for one in candidates)


def test_the_shortest_questions_without_earlier_turns_are_asked(tiny, monkeypatch):
    def case(words, *earlier):
        turns = tuple(Message(role, text) for role, text in (*earlier, ("user", words)))
        return Case(words, turns, reference="Yes.")

    follow_up = case("third", ("user", "a"), ("assistant", "b"))
    cases = [case("a longer one?"), follow_up, case("two?"), case("one?"), case("longest of all?")]
    monkeypatch.setattr(probes, "load_cases", lambda: cases)
    [asked] = ask_in(FORMATS[:1], tiny.tokenizer)
    texts = [tiny.tokenizer.decode(prompt) for prompt in asked.prompts]
    for text, question in zip(texts, ("one?", "two?", "a longer one?"), strict=True):
        assert question in text and not text.rstrip().endswith(question)


def test_a_prompt_is_what_the_format_writes_up_to_the_answer(tokenizer):
    with_bos = copy.deepcopy(tokenizer)
    with_bos.chat_template = "{{ bos_token }}"
    asked = ask_in(load_formats().select(("oasst", "mistral-v1")), with_bos)
    question = min(
        (case.messages[0].content for case in load_cases() if kind_of(case) == "reference"),
        key=len,
    )
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    assert {one.formats[0]: with_bos.decode(one.prompts[0]) for one in asked} == {
        "oasst": f"<|prompter|>{question}{eos}<|assistant|>",
        "mistral-v1": f"{bos} [INST] {question} [/INST]",
    }


def test_the_native_format_is_named_first_among_those_that_ask_alike(tiny):
    adapted(tiny, seed=1)
    known = load_formats().select(("chatml", "hermes", "llama3"))
    found = guess_format(tiny, adapter_changes(tiny), known, native="hermes")
    assert sorted(one.formats for one in found) == [("hermes", "chatml"), ("llama3",)]


def test_without_a_format_that_can_ask_it_says_so(tiny):
    refusing = replace(FORMATS[0], id="no", template="{{ raise_exception('no') }}")
    with pytest.raises(HarnessError, match="no format can write the questions"):
        ask_in([refusing], tiny.tokenizer)


def test_experts_alone_are_refused(tiny, monkeypatch):
    adapted(tiny, seed=1)
    changes = adapter_changes(tiny)
    monkeypatch.setattr(guess_module.InputRecorder, "close", lambda self, lengths: {})
    with pytest.raises(HarnessError, match="no changed layer sees all tokens of a prompt"):
        guess_format(tiny, changes, FORMATS)


def test_attention_counts_where_the_other_changed_layers_are_experts(tiny, monkeypatch):
    """They see a part of the tokens, and are outside attention."""
    adapted(tiny, seed=1, targets=["q_proj"])
    alone = guess_format(tiny, adapter_changes(tiny), FORMATS)
    tiny.model = tiny.model.unload()
    adapted(tiny, seed=1, targets=["q_proj"])
    changes = adapter_changes(tiny)
    expert = tiny.base.model.layers[0].mlp.up_proj
    changes[expert] = next(iter(changes.values()))
    close = guess_module.InputRecorder.close

    def without_the_expert(self, lengths):
        return {layer: x for layer, x in close(self, lengths).items() if layer is not expert}

    monkeypatch.setattr(guess_module.InputRecorder, "close", without_the_expert)
    assert guess_format(tiny, changes, FORMATS) == alone


def test_layers_outside_attention_decide_alone(tiny):
    adapted(tiny, seed=1, targets=["q_proj", "gate_proj"])
    changes = adapter_changes(tiny)
    outside = {layer: changes[layer] for layer in outside_attention(tiny, changes)}
    assert len(outside) == 2 < len(changes) == 4
    assert guess_format(tiny, changes, FORMATS) == guess_format(tiny, outside, FORMATS)


def test_half_of_the_response_is_of_the_inputs_and_half_of_their_differences(monkeypatch):
    x, down = torch.randn(3, 2, 5), torch.randn(2, 5)
    layer = torch.nn.Linear(5, 5)
    monkeypatch.setattr(guess_module, "_inputs", lambda *_: {layer: x.flatten(0, 1)})
    asked = [AskedFormats((name,), name, ((1,), (2,))) for name in "abc"]
    expected = sum(
        (each @ down.t()).square().sum(-1).log() - each.square().sum(-1).log()
        for each in (x, x - x.mean(0))
    )
    found = guess_module.responses(None, {layer: LowRank(down, torch.eye(2))}, asked)
    assert found[:, 0] == pytest.approx(expected.mean(1).numpy() / 2, rel=1e-4)


def test_where_nothing_is_added_the_response_is_finite(tiny):
    """With one format no input differs from the mean, and a layer can add nothing to an input."""
    adapted(tiny, seed=1)
    changes = adapter_changes(tiny)
    assert families_of(guess_format(tiny, changes, FORMATS[:1]))[0].probability == 1
    layer, change = next(iter(changes.items()))
    changes[layer] = LowRank(0 * change.down, change.gram)
    assert all(math.isfinite(one.response) for one in guess_format(tiny, changes, FORMATS))


def test_numbers_that_are_not_finite_are_refused(tiny):
    adapted(tiny, seed=1)
    next(weight for name, weight in tiny.model.named_parameters() if "lora_A" in name).data[0] = (
        math.nan
    )
    with pytest.raises(HarnessError, match="contain numbers that are not finite"):
        guess_format(tiny, adapter_changes(tiny), FORMATS)


def test_a_tenth_of_a_nat_is_worth_a_factor_of_e_where_the_layers_agree():
    agreed = guess_module._odds(np.full(9, 0.1))
    assert agreed == pytest.approx(math.exp(-1))
    differing = guess_module._odds(0.1 + np.array([-1.0, 0.0, 1.0] * 3))
    assert differing == pytest.approx(math.exp(-0.1 / math.hypot(0.1, math.sqrt(0.75) / 3)))
    two = guess_module._odds(np.array([0.1, 0.3]))
    assert two == pytest.approx(math.exp(-0.2 / math.hypot(0.1, 0.1)))
    assert guess_module._odds(np.array([0.4])) == 1, "the error of one layer is unknown"


def test_a_format_that_is_not_the_best_of_its_family_is_no_family():
    assert [one.family for one in families_of(candidates(0.6, 0.4, 0.0))] == [
        "pipe-tags",
        "llama3",
    ]


def candidates(*probabilities):
    names = [("zephyr", "pipe-tags"), ("llama3", "llama3"), ("gemma3", "gemma")]
    return [
        Candidate((name,), family, -float(at), share)
        for at, ((name, family), share) in enumerate(zip(names, probabilities, strict=False))
    ]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0.8, 0.2), "most likely trained in: zephyr (family pipe-tags, 80%); runner-up: llama3 "),
        ((CLEAR, 0.3, 0.2), "most likely trained in: zephyr "),
        (
            (CLEAR - 0.01, 0.31, 0.2),
            "no clear preference: zephyr (family pipe-tags, 39%), llama3 (family llama3, 31%), gemma3 ",
        ),
    ],
)
def test_the_guess_is_named_with_its_runner_up_or_called_none(shares, said):
    text = lines(candidates(*shares), "smollm2", "harness eval ./m")
    assert text[0].startswith(said)
    clear = said.startswith("most likely")
    assert ("; runner-up: llama3 (family llama3, " in text[0]) == clear
    compared = "zephyr,smollm2" if clear else "zephyr,llama3,gemma3,smollm2"
    assert text[-1] == f"next: harness eval ./m --formats {compared}"
    assert ("its chat template is smollm2" in text) == clear
