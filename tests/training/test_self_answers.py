"""The model's own answers: made once, in its native format, never to a question of the evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.data.conversations import load_conversations
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import load_cases
from harness.formats import load_formats
from harness.models.adapters import base_only
from harness.run_file import read_metrics, read_run_metadata
from harness.training.branch import BranchRequest, make_branch
from harness.training.config import (
    AdapterConfig,
    CheckpointsConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    ObjectiveConfig,
    OptimisationConfig,
    TrainConfig,
)
from harness.training.distill.self_answers import (
    SELF_ANSWERED,
    UNFINISHED,
    check_prompts,
    own_answers,
    recorded_answers,
    spread_prompts,
    write_conversations,
)
from harness.training.plan.dry_run import dry_run
from harness.training.preparation import prepare
from harness.training.start import train
from tests.device import chosen_device

NATIVE = load_formats()["chatml"]
ASKED = tuple(
    Conversation(f"q{n}", (Message("user", words), Message("assistant", "given")))
    for n, words in enumerate(("fox?", "dog?", "the lazy dog?"))
)


@pytest.fixture
def talkative(tiny, monkeypatch):
    """A tiny model whose every answer is two words and the stop."""
    from harness.backends.local.backend import TransformersBackend
    from harness.backends.protocol import Answer

    def generate(self, requests):
        yield [
            (
                r.key,
                Answer(
                    f" the fox {len(r.prompt.text)}",
                    "stop" if "lazy" not in r.prompt.text else "length",
                    "",
                    (),
                ),
            )
            for r in requests
        ]

    monkeypatch.setattr(TransformersBackend, "generate", generate)
    return tiny


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<think>\nhm\n</think>\n\nfox", Message("assistant", "fox", reasoning="hm")),
        ("<think>\nhm, and the fox", None),
        ("<think>\n\n</think>\n\n fox ", Message("assistant", "fox")),
        ("fox", Message("assistant", "fox")),
    ],
)
def test_a_thought_of_an_answer_is_its_thought(tiny, monkeypatch, text, message):
    from harness.backends.local.backend import TransformersBackend
    from harness.backends.protocol import Answer

    def generate(self, requests):
        yield [(request.key, Answer(text, "stop", "", ())) for request in requests]

    monkeypatch.setattr(TransformersBackend, "generate", generate)
    found = own_answers(tiny, ASKED[:1], load_formats()["qwen3"], 8)
    assert [one.messages[-1] for one in found] == ([message] if message else [])


def test_the_last_answer_is_replaced_and_what_did_not_end_is_left_out(talkative):
    found = own_answers(talkative, ASKED, NATIVE, 8)
    assert [c.id for c in found] == ["q0/self", "q1/self"]
    assert all(
        c.messages[-1].content.startswith("the fox") and c.tags == (SELF_ANSWERED,) for c in found
    )
    assert [m.content for m in found[0].messages[:-1]] == ["fox?"]


def test_unfinished_answers_are_kept_on_demand_and_marked(talkative):
    found = own_answers(talkative, ASKED, NATIVE, 8, unfinished=True)
    assert [UNFINISHED in c.tags for c in found] == [False, False, True]


def test_answers_are_greedy_and_those_of_the_base(tiny):
    """Against transformers' own generate on the same ids."""
    import torch

    from harness.formats.render import render
    from harness.tokens.encode import prompt_ids

    rendered = render(
        Conversation("q", ASKED[0].messages[:1]),
        NATIVE,
        add_generation_prompt=True,
        eos_token="<|im_end|>",
    )
    ids = torch.tensor([prompt_ids(rendered, tiny.tokenizer)], device=chosen_device())
    out = tiny.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=300, do_sample=False
    )[0, ids.shape[1] :].tolist()
    found = own_answers(tiny, ASKED[:1], NATIVE, 300)
    if tiny.tokenizer.eos_token_id in out:
        assert (
            found[0].messages[-1].content
            == tiny.tokenizer.decode(out[: out.index(tiny.tokenizer.eos_token_id)]).strip()
        )
    else:
        assert found == []


def test_an_adapter_is_switched_off_for_the_teacher_and_on_again(tiny):
    import torch

    from harness.training.step.lora import add_adapter

    ids = torch.arange(3, 20, device=chosen_device()).unsqueeze(0)
    with torch.no_grad():
        base = tiny.model(ids).logits
        tiny.model = add_adapter(tiny, AdapterConfig(lora_r=4), 0)
        for name, weight in tiny.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.1)
        moved = tiny.model(ids).logits
        with base_only(tiny):
            assert torch.equal(tiny.model(ids).logits, base)
        assert torch.equal(tiny.model(ids).logits, moved) and not torch.allclose(moved, base)


def test_what_is_written_is_read_back_and_not_made_again(talkative, tmp_path, monkeypatch):
    file = tmp_path / "run" / "answers.jsonl"
    first = recorded_answers(file, talkative, ASKED, NATIVE, 8)
    monkeypatch.setattr(
        "harness.training.distill.self_answers.own_answers", lambda *a: pytest.fail("made again")
    )
    again = recorded_answers(file, talkative, ASKED, NATIVE, 8)
    assert [replace(c, source="") for c in first] == [replace(c, source="") for c in again] and len(
        again
    ) == 2


def test_names_and_odd_characters_survive_the_file(tmp_path):
    row = Conversation(
        "a", (Message("user", "\u2028 line\n“x”", "Dov"), Message("assistant", "🦊")), ("t",)
    )
    write_conversations(tmp_path / "x.jsonl", [row])
    [back] = load_conversations([str(tmp_path / "x.jsonl")])
    assert replace(back, source="") == row


def test_a_question_of_the_evaluation_is_no_prompt():
    asked = load_cases()[0].messages
    with pytest.raises(HarnessError, match="cannot be trained on"):
        check_prompts([Conversation("x", (*asked, Message("assistant", "…")))])
    check_prompts(ASKED)


def test_prompts_are_spread_over_the_whole_set():
    rows = [replace(ASKED[0], id=str(n)) for n in range(10)]
    assert [c.id for c in spread_prompts(rows, 5)] == ["0", "2", "4", "6", "8"]
    assert spread_prompts(rows, 0) == rows == spread_prompts(rows, 99)


def small(model, data, folder, objective):
    """One epoch of single rows in two formats."""
    return TrainConfig(
        model=str(model),
        output_dir=str(folder),
        dtype="float32",
        adapter=AdapterConfig(lora_r=4),
        data=DataConfig(train=(str(data),)),
        formats=FormatsConfig(train=("chatml", "alpaca-newline")),
        optimisation=OptimisationConfig(num_train_epochs=1, per_device_train_batch_size=1),
        objective=objective,
        evaluation=EvaluationConfig(references=0, recall_rows=0),
        checkpoints=CheckpointsConfig(),
    )


@pytest.mark.parametrize("answers", ["self", "both"])
def test_a_run_learns_from_its_own_answers(talkative, tiny_model, tmp_path, answers):
    data = tmp_path / "rows.jsonl"
    write_conversations(data, ASKED)
    config = small(
        tiny_model,
        data,
        tmp_path / "run",
        ObjectiveConfig(
            kind="distillation", native="chatml", answers=answers, supervised_weight=0.5
        ),
    )
    train(config, loaded=talkative, quiet=True)
    steps = read_metrics(tmp_path / "run")
    assert len(steps) == (3 if answers == "self" else 6)


def test_the_command_writes_conversations(talkative, monkeypatch, tmp_path, capsys):
    data, out = tmp_path / "rows.jsonl", tmp_path / "own.jsonl"
    write_conversations(data, ASKED)
    monkeypatch.setattr("harness.models.load_trained", lambda name: talkative)
    command = ["data", "answers", str(data), "--model", "tiny", "--native", "chatml"]
    assert main([*command, "--out", str(out)]) == 0
    assert "2 of 3 prompts" in capsys.readouterr().out and len(load_conversations([str(out)])) == 2
    assert main([*command, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.fixture
def asking(tiny_model, tmp_path):
    """A run whose rows are only questions; the model answers two of the three."""
    data = tmp_path / "prompts.jsonl"
    write_conversations(data, [replace(row, messages=row.messages[:1]) for row in ASKED])
    config = small(
        tiny_model,
        data,
        tmp_path / "run",
        ObjectiveConfig(kind="distillation", native="chatml", answers="self", prompts=2),
    )
    return replace(
        config,
        optimisation=replace(config.optimisation, num_train_epochs=3),
        checkpoints=CheckpointsConfig(save_steps=2),
    )


def test_prompts_need_no_answers_where_the_model_gives_them(asking, talkative):
    with pytest.raises(HarnessError, match="no assistant turn"):
        prepare(replace(asking, objective=ObjectiveConfig()))
    assert dry_run(asking).facts["steps"] == 6, (
        "before there are answers, as many as prompts are asked"
    )
    train(asking, loaded=talkative, quiet=True)
    assert [c.id for c in load_conversations([str(Path(asking.output_dir) / "answers.jsonl")])] == [
        "q0/self",
        "q1/self",
    ]
    entries = read_metrics(Path(asking.output_dir))
    assert len([entry for entry in entries if entry["kind"] == "step"]) == 6


def test_a_branch_goes_on_with_the_very_same_answers(asking, talkative):
    train(asking, loaded=talkative, quiet=True)
    run = Path(asking.output_dir)
    child = make_branch(BranchRequest(run, "step:4", ("learning_rate=1e-5",)))
    assert (child / "answers.jsonl").read_bytes() == (run / "answers.jsonl").read_bytes()
    assert read_run_metadata(child).branch.schedule_from == 4, (
        "two epochs of two answers, not of three rows"
    )
