"""[loss] chooses the trained parts of an answer, and the log counts each part's loss."""

from __future__ import annotations

import json

import pytest

from harness.conversation import Conversation, Message, Tool, ToolCall
from harness.data.refusals import RefusedRow
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.render import render
from harness.run_file import read_metrics
from harness.training.config import LossConfig, parse_config
from harness.training.data.examples import ExampleCache
from harness.training.data.trained_parts import PARTS, selected
from harness.training.start import train
from tests.tiny import build_tokenizer

TOOL = Tool('{"type": "function", "function": {"name": "weigh", "parameters": {}}}')
TALK = Conversation(
    "talk",
    (
        Message("system", "Weigh parcels."),
        Message("user", "Hi."),
        Message("assistant", "Hello."),
        Message("user", "Parcel 7?"),
        Message(
            "assistant",
            "",
            reasoning="I need the scales.",
            tool_calls=(ToolCall("weigh", '{"parcel": 7}'),),
        ),
        Message("tool", "2.4 kg", name="weigh"),
        Message("assistant", "2.4 kg.", reasoning="The result says so."),
    ),
    tools=(TOOL,),
)
QWEN3 = load_formats()["qwen3"]


def parts_of(loss, talk=TALK):
    """The trained texts, joined where nothing comes between them."""
    rendered = selected(render(talk, QWEN3), talk.messages, loss)
    texts, end = [], -1
    for at, span in enumerate(rendered.spans):
        if span.trained and at not in rendered.context:
            text = rendered.text[span.start : span.end]
            texts = [*texts[:-1], texts[-1] + text] if span.start == end else [*texts, text]
            end = span.end
    return texts


def test_all_parts_are_trained_by_default():
    whole = render(TALK, QWEN3)
    assert selected(whole, TALK.messages, LossConfig()) is whole
    trained = "".join(parts_of(LossConfig()))
    for text in ("Hello.", "I need the scales.", '"parcel": 7', "The result says so.", "2.4 kg."):
        assert text in trained
    assert "2.4 kg\n" not in trained and trained.count("<|im_end|>") == 3


@pytest.mark.parametrize(
    ("chosen", "inside", "outside", "stops"),
    [
        (("answers",), ("Hello.", "2.4 kg."), ("scales", "weigh", "result"), 2),
        (("thoughts",), ("scales", "result"), ("Hello.", "weigh", "2.4 kg."), 0),
        (("calls",), ("weigh",), ("Hello.", "scales", "2.4 kg"), 1),
        (("answers", "calls"), ("Hello.", "weigh", "2.4 kg."), ("scales", "result"), 3),
    ],
)
def test_parts_are_chosen_by_kind(chosen, inside, outside, stops):
    trained = "".join(parts_of(LossConfig(chosen)))
    assert all(text in trained for text in inside), trained
    assert not any(text in trained for text in outside), trained
    assert trained.count("<|im_end|>") == stops


def test_the_last_turn_is_all_behind_the_last_question():
    trained = "".join(parts_of(LossConfig(last_turn_only=True)))
    assert "weigh" in trained and "2.4 kg." in trained and "Hello." not in trained


def test_tokens_do_not_depend_on_what_is_trained():
    tokenizer = build_tokenizer()
    whole = ExampleCache([TALK], [QWEN3], tokenizer, 4096)((0, 0))
    some = ExampleCache([TALK], [QWEN3], tokenizer, 4096, loss=LossConfig(("answers",)))((0, 0))
    assert whole.encoded.ids == some.encoded.ids
    assert 0 < some.supervised < whole.supervised
    assert set(dict(whole.parts)) == set(PARTS) and set(dict(some.parts)) == {"answers", "stop"}
    assert sum(tokens for _, tokens in whole.parts) == whole.supervised
    kept = [a and b for a, b in zip(whole.encoded.trained, some.encoded.trained, strict=True)]
    assert tuple(kept) == some.encoded.trained


def test_weights_of_messages_still_apply():
    light = Message("assistant", "Hello.", weight=0.0)
    talk = Conversation("w", (*TALK.messages[:2], light, *TALK.messages[3:]), tools=(TOOL,))
    tokenizer = build_tokenizer()
    loss = LossConfig(("answers", "calls"))
    example = ExampleCache([talk], [QWEN3], tokenizer, 4096, loss=loss)((0, 0))
    words = tokenizer.decode(
        [i for i, t in zip(example.encoded.ids, example.encoded.trained, strict=True) if t]
    )
    assert "Hello" not in words and "2.4" in words and "scales" not in words


def test_a_row_without_a_chosen_part_is_refused_for_that():
    talk = Conversation("plain", (Message("user", "Hi."), Message("assistant", "Hello.")))
    cache = ExampleCache([talk], [QWEN3], build_tokenizer(), 4096, loss=LossConfig(("calls",)))
    with pytest.raises(RefusedRow, match=r"loss\.train_on leaves nothing"):
        cache((0, 0))


def test_the_settings_are_checked():
    assert parse_config({"loss": {"train_on": ["calls"]}}).loss == LossConfig(("calls",))
    with pytest.raises(HarnessError, match="train_on"):
        parse_config({"loss": {"train_on": []}})
    with pytest.raises(HarnessError, match="train_on"):
        parse_config({"loss": {"train_on": ["words"]}})


def test_held_out_loss_is_measured_by_part(tmp_path, tiny_model):
    """A run on rows with thoughts and calls logs the NLL of controls by part, in each group."""
    call = {"type": "function", "function": {"name": "weigh", "arguments": {"parcel": 7}}}
    rows = [
        {
            "tools": [TOOL.as_object()],
            "messages": [
                {"role": "user", "content": f"Weigh {n}."},
                {
                    "role": "assistant",
                    "content": "",
                    "reasoning_content": "Scales.",
                    "tool_calls": [call],
                },
                {"role": "tool", "content": f"{n} kg"},
                {"role": "assistant", "content": f"It is {n} kg."},
            ],
        }
        for n in range(8)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = parse_config(
        {
            "model": str(tiny_model),
            "output_dir": str(tmp_path / "run"),
            "dtype": "float32",
            "data": {"train": [str(file)], "controls": 2},
            "formats": {"train": ["qwen3"], "held_out": ["llama3.1"]},
            "loss": {"train_on": ["answers", "calls"]},
            "optimisation": {
                "max_steps": 2,
                "per_device_train_batch_size": 4,
                "learning_rate": 0.01,
            },
            "evaluation": {"references": 0, "recall_rows": 2},
            "checkpoints": {"save_steps": 2},
        }
    )
    train(config, quiet=True)
    entries = read_metrics(tmp_path / "run")
    first, last = [e["nll_parts"] for e in entries if e["kind"] == "checkpoint"]
    assert set(first["seen"]) == {"answers", "thoughts", "calls", "stop"}
    assert set(first["held_out"]) == {"answers", "calls", "stop"}, "llama3.1 has no thoughts"
    assert last["seen"]["calls"] < first["seen"]["calls"]
    steps = [e for e in entries if e["kind"] == "step"]
    assert set(steps[0]["parts"]) == {"answers", "calls", "stop"}
    tokens = sum(part["tokens"] for part in steps[0]["parts"].values())
    assert tokens == steps[0]["supervised_tokens"]
