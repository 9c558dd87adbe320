"""A message's ``train`` and ``weight``, from the file to the loss, against a computation by hand."""

from __future__ import annotations

import json

import pytest
import torch

from harness.conversation import Conversation, Message
from harness.data.conversations import load_conversations
from harness.formats import load_formats
from harness.formats.render import render
from harness.tokens.encode import bos_text, encode, eos_text
from harness.training.config import OptimisationConfig
from harness.training.data.examples import Example
from harness.training.step.loss import Tally, supervised_loss
from harness.training.step.updater import Updater
from tests.device import chosen_device

TURNS = [
    ("user", "the fox?", {}),
    ("assistant", "over the dog", {"train": False}),
    ("user", "dog", {}),
    ("assistant", "quick and brown", {"weight": 0.25}),
]


@pytest.fixture
def conversation(tmp_path):
    row = {"messages": [{"role": role, "content": text, **rest} for role, text, rest in TURNS]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return load_conversations([str(tmp_path / "rows.jsonl")])[0]


def encoded(conversation, format, tokenizer):
    return encode(
        render(
            conversation,
            load_formats()[format],
            bos_token=bos_text(tokenizer),
            eos_token=eos_text(tokenizer),
        ),
        tokenizer,
    )


def example(conversation, format, tokenizer):
    return Example(conversation.id, format, encoded(conversation, format, tokenizer))


def plain(conversation, *weights):
    return Conversation(
        "p",
        tuple(
            Message(m.role, m.content, m.name, w)
            for m, w in zip(conversation.messages, weights, strict=True)
        ),
    )


@pytest.mark.parametrize("format", ["chatml", "alpaca-newline", "llama2-chat"])
def test_an_untrained_answer_is_context_with_the_same_ids(conversation, format, tokenizer):
    found, all_trained = (
        encoded(conversation, format, tokenizer),
        encoded(plain(conversation, 1, 1, 1, 1), format, tokenizer),
    )
    assert found.ids == all_trained.ids and found.content == all_trained.content
    first, second = (
        encoded(plain(conversation, 1, a, 1, b), format, tokenizer).trained
        for a, b in ((1, 0), (0, 1))
    )
    assert (
        found.trained == second
        and any(first)
        and not any(a and b for a, b in zip(first, second, strict=True))
    )
    assert {
        weight for weight, trained in zip(found.weights, found.trained, strict=True) if trained
    } == {0.25}
    assert all_trained.weights == ()


def test_the_loss_is_the_weighted_sum_of_each_tokens(conversation, tiny):
    mixed = plain(conversation, 1, 2.0, 1, 0.25)
    batch = [
        example(mixed, "chatml", tiny.tokenizer),
        example(conversation, "llama2-chat", tiny.tokenizer),
    ]
    by_hand = 0.0
    with torch.no_grad():
        for one in batch:
            logprobs = (
                tiny.model(torch.tensor([one.encoded.ids], device=chosen_device()))
                .logits[0]
                .log_softmax(-1)
            )
            for at in range(1, len(one.encoded.ids)):
                if one.encoded.trained[at]:
                    by_hand -= (
                        one.encoded.weights[at] * logprobs[at - 1, one.encoded.ids[at]].item()
                    )
        assert supervised_loss(tiny, batch).item() == pytest.approx(by_hand, rel=1e-5)
    assert {2.0, 0.25} <= set(batch[0].encoded.weights)


def test_a_weight_shared_by_all_changes_nothing(conversation, tiny_model):
    """The mean is over weights: 0.5 everywhere is 1 everywhere."""
    from harness.models import load
    from harness.training.config import AdapterConfig
    from harness.training.step.lora import add_adapter

    moved = []
    for weight in (1.0, 0.5):
        loaded = load(str(tiny_model), dtype="float32", device=chosen_device())
        loaded.model = add_adapter(loaded, AdapterConfig(lora_r=2), 0)
        updater = Updater(loaded, loaded.model, OptimisationConfig())
        rows = [
            example(plain(conversation, 1, weight, 1, weight), format, loaded.tokenizer)
            for format in ("chatml", "alpaca-newline")
        ]
        moved.append(updater.step(rows, 1e-3))
    assert moved[0].loss == pytest.approx(moved[1].loss, rel=1e-6)
    assert moved[0].grad_norm == pytest.approx(moved[1].grad_norm, rel=1e-5)


def test_loss_and_accuracy_are_told_by_format(conversation, tiny):
    batch = [
        example(plain(conversation, 1, 1, 1, 1), format, tiny.tokenizer)
        for format in ("chatml", "llama2-chat", "chatml")
    ]
    tally = Tally()
    with torch.no_grad():
        supervised_loss(tiny, batch[:2], tally)
        supervised_loss(tiny, batch[2:], tally)
        found = tally.by_format()
        assert list(found) == ["chatml", "llama2-chat"]
        for format, times in (("chatml", 2), ("llama2-chat", 1)):
            one = next(e for e in batch if e.format == format)
            ids = torch.tensor(one.encoded.ids, device=chosen_device())
            logprobs = tiny.model(ids[None]).logits[0].log_softmax(-1)[:-1]
            wanted = torch.tensor(one.encoded.trained[1:], device=chosen_device())
            own = logprobs.gather(1, ids[1:, None])[:, 0][wanted]
            assert found[format]["tokens"] == times * one.supervised == times * int(wanted.sum())
            assert found[format]["loss"] == pytest.approx(-own.mean().item(), rel=1e-5)
            assert found[format]["accuracy"] == pytest.approx(
                (logprobs.argmax(-1) == ids[1:])[wanted].float().mean().item()
            )
