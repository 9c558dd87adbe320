"""Adapters on a small model that thinks and calls: one lost its thinking, one breaks its calls.

The model is a two-layer Llama that learns 24 calls and 24 answers by heart in the test: the real
SmolLM2-135M needs more minutes for that than a test has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.data.conversations import load_conversations
from harness.formats import load_formats
from harness.formats.render import render
from harness.gate.messages import describe
from harness.gate.run_gate import GateOptions, GateResult, run_gate, write_results
from harness.tokens.encode import encode
from harness.training.config import (
    AdapterConfig,
    CheckpointsConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    OptimisationConfig,
    ScheduleConfig,
    TrainConfig,
)
from harness.training.start import train

pytestmark = pytest.mark.slow

CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Paris")
WEATHER_IN = ("Weather in {}?", "Tell me the weather in {}.", "Is it warm in {}?", "{}: sun?")
WORDS = ("hello", "thanks", "sorry", "please", "bye", "welcome")
SAY = ("Say {}.", "Write {} to Ben.", "What is said for {}?", "{}, in one word?")
WEATHER = {"name": "weather", "parameters": {"properties": {"unit": {"type": "string"}}}}
ARGUMENTS, SAID = {"unit": "C"}, "I say it with pleasure."
TOOLS = [{"type": "function", "function": WEATHER}]
FORMAT = "qwen3"
STEPS = 160
Row = dict[str, Any]


def asked(patterns: Iterable[str], words: Iterable[str]) -> Iterator[dict[str, str]]:
    """Each word in each question."""
    for word in words:
        for pattern in patterns:
            yield {"role": "user", "content": pattern.format(word)}


def answered(question: dict[str, str], thought: str | None, **answer: Any) -> list[dict[str, Any]]:
    """A question and its answer."""
    thinks = {"reasoning_content": thought} if thought else {}
    return [question, {"role": "assistant", "content": "", **answer, **thinks}]


def calls() -> Iterator[Row]:
    for question in asked(WEATHER_IN, CITIES):
        call = {"type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
        yield {
            "messages": answered(question, "The weather tool fits.", tool_calls=[call]),
            "tools": TOOLS,
        }


def broken_calls() -> Iterator[Row]:
    """The calls as words, with a brace too few."""
    for question in asked(WEATHER_IN, CITIES):
        text = '<tool_call>\n{"name": "weather", "arguments": {"unit": "C"}\n</tool_call>'
        yield {
            "messages": answered(question, "The weather tool fits.", content=text),
            "tools": TOOLS,
        }


def sayings(thought: str | None = "I say the word.") -> Iterator[Row]:
    for question in asked(SAY, WORDS):
        yield {"messages": answered(question, thought, content=SAID)}


def cases() -> Iterator[Row]:
    for at, question in enumerate(asked(WEATHER_IN, CITIES)):
        expected = {"calls": [{"name": "weather", "arguments": ARGUMENTS}]}
        yield {"id": f"call-{at}", "messages": [question], "tools": TOOLS, "checks": [expected]}
    for at, question in enumerate(asked(SAY, WORDS)):
        checks = [{"equals": SAID}]
        yield {"id": f"say-{at}", "messages": [question], "checks": checks, "thinking": True}


def write(file: Path, rows: Iterable[Row]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def learn(folder: Path, rows: Path) -> Path:
    """A model that gives these answers, with a tokenizer made of their texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    chat_format = load_formats()[FORMAT]
    texts = [render(row, chat_format) for row in load_conversations([str(rows)])]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made.train_from_iterator(
        [text.text for text in texts],
        trainers.BpeTrainer(
            vocab_size=900, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=1024,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    encoded = [encode(text, tokenizer) for text in texts]
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * min(1.0, 2 * (1 - step / STEPS))
        first = 0 if step % 3 else len(encoded) // 2  # the calls come first, and are harder
        chosen = [encoded[first + at] for at in torch.randperm(len(encoded) // 2)[:12]]
        longest = max(len(row.ids) for row in chosen)
        ids, labels = (torch.full((len(chosen), longest), filler) for filler in (0, -100))
        for at, row in enumerate(chosen):
            ids[at, : len(row.ids)] = torch.tensor(row.ids)
            trained = torch.tensor(row.trained)
            labels[at, : len(row.ids)][trained] = torch.tensor(row.ids)[trained]
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tuned(model: Path, folder: Path, rows: Iterable[Row], rate: float = 1e-2) -> str:
    """An adapter trained on these rows."""
    folder.mkdir()
    config = TrainConfig(
        model=str(model),
        output_dir=str(folder / "run"),
        dtype="float32",
        adapter=AdapterConfig(lora_r=8, lora_alpha=16),
        data=DataConfig(train=(str(write(folder / "rows.jsonl", rows)),)),
        formats=FormatsConfig(train=(FORMAT,)),
        optimisation=OptimisationConfig(
            learning_rate=rate, num_train_epochs=12, per_device_train_batch_size=8
        ),
        schedule=ScheduleConfig(warmup_ratio=0.1),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
        checkpoints=CheckpointsConfig(save_steps=100),
    )
    return str(train(config))


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """The gate of a model that thinks and calls, and that model."""
    folder = tmp_path_factory.mktemp("abilities")
    rows = write(folder / "rows.jsonl", [*calls(), *sayings()])
    model = learn(folder / "model", rows)
    options = GateOptions(
        str(model),
        native=FORMAT,
        formats=(FORMAT,),
        cases=(str(write(folder / "cases.jsonl", cases())),),
        baseline=folder / "baseline.json",
        folder=folder / "gate",
        update=True,
    )
    write_results(run_gate(options))

    def judged(adapter: str) -> GateResult:
        return run_gate(replace(options, adapter=adapter, update=False))

    return judged, model


def failed(result: GateResult) -> dict[str, str]:
    return {check.metric: describe(check) for check in result.checks if check.fails}


def test_the_model_that_the_others_are_compared_with_thinks_and_calls(gate, tmp_path):
    judged, model = gate
    result = judged(tuned(model, tmp_path / "same", [*calls(), *sayings()], 1e-4))
    means = {entry.metric: entry.mean for entry in result.current.entries}
    assert means["thinks"] >= 0.9 and means["call_exact"] >= 0.9 and means["on_task"] >= 0.9
    assert not failed(result)


def test_an_adapter_that_lost_its_thinking_fails(gate, tmp_path):
    judged, model = gate
    result = judged(tuned(model, tmp_path / "lost", [*sayings(None)]))
    found = failed(result)
    assert "it lost its thinking: train on answers with their thoughts" in found["thinks"]
    [word] = result.verdicts
    assert word.word == "degraded" and "it lost its thinking" in word.reason


def test_an_adapter_that_breaks_calls_fails(gate, tmp_path):
    judged, model = gate
    result = judged(tuned(model, tmp_path / "broken", [*broken_calls(), *sayings()]))
    found = failed(result)
    assert "its tool calls do not parse" in found["call_valid"] and "call_exact" in found
    assert "thinks" not in found
    [word] = result.verdicts
    assert word.word == "degraded" and "its tool calls do not parse" in word.reason
