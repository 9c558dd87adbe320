"""objective.teacher_folds: who teaches a row never saw it, and the run stays reproducible."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.models import load
from harness.training.branch import BranchRequest, make_branch
from harness.training.config import (
    AutoBranchConfig,
    DataConfig,
    EvaluationConfig,
    FormatsConfig,
    ObjectiveConfig,
    StoppingConfig,
    TrackingConfig,
    parse_config,
)
from harness.training.data.folds import (
    TEACHERS_DIR,
    cut_into_folds,
    teacher_config,
    teacher_examples,
)
from harness.training.distill.native_rows import NativeRows
from harness.training.fold_teachers import fold_teacher
from harness.training.loop import Trainer
from harness.training.objective import native_format_of
from harness.training.plan.dry_run import dry_run
from harness.training.preparation import prepare
from harness.training.start import resume, train
from tests.device import chosen_device
from tests.training.interrupted import assert_ends_like_uninterrupted
from tests.training.small import load_adapted, small_config, write_rows

ROWS = [(f"question {n}?", f"the answer {n} jumps") for n in range(9)]
WEIGHTS = "adapter/adapter_model.safetensors"


def row(name: str, answer: str, kind: str = "") -> Conversation:
    messages = (Message("user", "why?"), Message("assistant", answer))
    return Conversation(name, messages, (kind,) if kind else ())


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), min_size=5, max_size=60),
    st.integers(2, 5),
    st.integers(0, 9),
)
def test_folds_are_a_partition_with_equal_shares_of_every_kind(given_rows, count, seed):
    rows = [row(f"{at}", f"{kind}{n}", kind) for at, (kind, n) in enumerate(given_rows)]
    different = set(given_rows)
    if len(different) < count:
        with pytest.raises(HarnessError, match="different answers"):
            cut_into_folds(rows, count, seed)
        return
    folds = cut_into_folds(rows, count, seed)
    assert sorted(name for fold in folds for name in fold) == sorted(each.id for each in rows)
    fold_of = {name: number for number, fold in enumerate(folds) for name in fold}
    by_answer: dict[tuple[str, int], set[int]] = {}
    for at, key in enumerate(given_rows):
        by_answer.setdefault(key, set()).add(fold_of[f"{at}"])
    assert all(len(numbers) == 1 for numbers in by_answer.values())
    for kind in "abc":
        sizes = Counter(min(numbers) for key, numbers in by_answer.items() if key[0] == kind)
        assert max(sizes[n] for n in range(count)) - min(sizes[n] for n in range(count)) <= 1
    assert cut_into_folds(list(reversed(rows)), count, seed) == folds


def test_answers_that_differ_in_case_and_spaces_come_into_one_fold():
    rows = [row(f"{n}", f"answer {n}") for n in range(20)]
    copies = [row(f"copy-{n}", f" Answer  {n}\n") for n in range(20)]
    for fold in cut_into_folds([*rows, *copies], 4, 0):
        assert {name.removeprefix("copy-") for name in fold} == {
            name for name in fold if not name.startswith("copy-")
        }


def test_the_seed_decides_the_folds():
    rows = [row(f"{n}", f"answer {n}") for n in range(20)]
    assert cut_into_folds(rows, 2, 0) != cut_into_folds(rows, 2, 1)


@pytest.fixture
def config(tiny_model, tmp_path):
    return small_config(
        tiny_model,
        tmp_path,
        rows=ROWS,
        objective=ObjectiveConfig(
            kind="distillation", native="chatml", top_k=0, teacher_folds=3, teacher_epochs=4
        ),
        optimisation={"num_train_epochs": 2},
    )


def taught(config):
    """The run, its native rows, and what their teachers say."""
    ready = prepare(config)
    loaded = load(config.model, dtype="float32", device=chosen_device())
    native = native_format_of(ready, loaded)
    rows = NativeRows(ready.conversations, native, ready.trained, loaded.tokenizer)
    encoded = {name: rows.encoded(name) for name in rows.conversations}
    first = encoded[ready.conversations[0].id]
    before = logprobs(loaded.model, first)
    teacher = fold_teacher(ready, loaded, "digest", quiet=True)(encoded)
    assert not hasattr(loaded.model, "peft_config") and loaded.adapter is None
    assert torch.equal(logprobs(loaded.model, first), before), "the base is as it was"
    return ready, encoded, teacher


def logprobs(model, encoded):
    ids = torch.tensor([encoded.ids], device=chosen_device())
    with torch.no_grad():
        rows = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
    return torch.stack(
        [rows[at - 1, encoded.ids[at]] for at, t in enumerate(encoded.trained) if t and at]
    )


def test_each_row_is_taught_by_the_adapter_of_its_fold(config):
    ready, encoded, teacher = taught(config)
    folds = cut_into_folds(ready.conversations, 3, config.seed)
    assert set(teacher) == set(encoded)
    for number, fold in enumerate(folds, 1):
        adapter = Path(config.output_dir) / TEACHERS_DIR / str(number) / "adapter"
        model = load_adapted(Path(config.model), adapter).model
        for name in fold:
            wanted = logprobs(model, encoded[name]).exp()
            assert torch.allclose(teacher[name].label_probability.double(), wanted, atol=1e-5)


def test_a_teachers_weights_do_not_depend_on_the_rows_that_it_teaches(config, tmp_path):
    """The text of a question is changed; answers decide the folds, so these stay."""
    ready, _, _ = taught(config)
    folds = cut_into_folds(ready.conversations, 3, config.seed)
    changed = next(at for at, row in enumerate(ready.conversations) if row.id in folds[0])
    lines = Path(config.data.train[0]).read_text().splitlines()
    other = json.loads(lines[changed])
    other["messages"][0]["content"] = "something else?"
    lines[changed] = json.dumps(other)
    (tmp_path / "changed").mkdir()
    (tmp_path / "changed" / "rows.jsonl").write_text("\n".join(lines) + "\n")
    again = replace(
        config,
        output_dir=str(tmp_path / "again"),
        data=replace(config.data, train=(str(tmp_path / "changed" / "rows.jsonl"),)),
    )
    taught(again)
    for number in (1, 2, 3):
        one, two = (
            (Path(each.output_dir) / TEACHERS_DIR / str(number) / WEIGHTS).read_bytes()
            for each in (config, again)
        )
        assert (one == two) == (number == 1), number


@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_resumed_run_ends_in_the_same_bytes(config, tmp_path, monkeypatch, stop_at):
    """Interrupted before a step that a teacher reaches first, and before one of the student's.

    A teacher takes 3 steps an epoch and 12 in all, the student 5 and 10.
    """
    assert_ends_like_uninterrupted(config, tmp_path, monkeypatch, stop_at=stop_at)


@pytest.mark.parametrize("control_tokens", [False, True])
def test_interrupted_after_its_teachers_it_does_not_train_them_again(
    config, tmp_path, monkeypatch, control_tokens
):
    if control_tokens:
        config = replace(
            config,
            adapter=replace(config.adapter, train_control_tokens=True),
            formats=replace(config.formats, train=("gemma3",)),
        )
    whole = train(replace(config, output_dir=str(tmp_path / "whole")), quiet=True)
    original, stepped = Trainer.step, []

    def step(self, number, sum_lr):
        stepped.append(self.folder.name)
        if stepped.count("run") == 5:
            raise KeyboardInterrupt
        return original(self, number, sum_lr)

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(config, quiet=True)
    assert Counter(stepped) == {"1": 12, "2": 12, "3": 12, "run": 5}
    adapter = train(config, quiet=True)
    assert Counter(stepped)["1"] == 12
    assert Counter(stepped)["run"] == 5 + 10 - 3, "from the checkpoint at step 3"
    assert (adapter / "tokenizer.json").is_file() == control_tokens, "it has new tokens"
    assert (adapter.parent / WEIGHTS).read_bytes() == (whole.parent / WEIGHTS).read_bytes()


@pytest.mark.parametrize(("setting", "same"), [("learning_rate=1e-3", True), ("seed=1", False)])
def test_a_branch_has_the_teachers_of_its_trunk_if_they_teach_the_same(
    config, monkeypatch, setting, same
):
    run = train(config, quiet=True).parent
    branch = make_branch(BranchRequest(run, "step:3", (setting,)))
    original, trained = Trainer.step, set()

    def step(self, number, sum_lr):
        trained.add(self.folder.name)
        return original(self, number, sum_lr)

    monkeypatch.setattr(Trainer, "step", step)
    resume(branch, quiet=True)
    assert trained == ({branch.name} if same else {branch.name, "1", "2", "3"})
    taught = [(folder / TEACHERS_DIR / "1" / WEIGHTS).read_bytes() for folder in (run, branch)]
    assert (taught[0] == taught[1]) == same


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        ({"kind": "distillation", "teacher_folds": 1}, "leaves no rows"),
        ({"teacher_folds": 2}, "needs kind = 'distillation', not 'supervised'"),
        ({"kind": "distillation", "answers": "self", "teacher_folds": 2}, "needs answers"),
    ],
)
def test_settings_that_give_no_teacher_are_refused(objective, says):
    with pytest.raises(HarnessError, match=says):
        parse_config({"model": "m", "objective": objective})


def test_more_folds_than_rows_are_refused_before_anything_is_written(config):
    many = replace(config, objective=replace(config.objective, teacher_folds=10))
    with pytest.raises(HarnessError, match="9 different answers"):
        train(many, quiet=True)
    assert not (Path(config.output_dir) / "run.json").exists()


def test_a_teacher_learns_plain_rows_without_what_only_the_run_needs(config):
    run = replace(
        config,
        adapter=replace(config.adapter, train_control_tokens=True),
        data=replace(config.data, forged_turns=1.0),
        optimisation=replace(config.optimisation, max_steps=3),
        evaluation=EvaluationConfig(references=5, recall_rows=5),
        stopping=StoppingConfig(max_drift_hazard=0.1),
        auto_branch=AutoBranchConfig(branch_at_turn=True),
        tracking=TrackingConfig(project="another"),
    )
    own = teacher_config(run, "chatml", 2)
    assert (own.formats, own.objective) == (FormatsConfig(train=("chatml",)), ObjectiveConfig())
    assert own.optimisation == replace(config.optimisation, num_train_epochs=4, max_steps=0)
    assert (own.stopping, own.auto_branch) == (StoppingConfig(), AutoBranchConfig())
    assert (own.tracking, own.adapter) == (TrackingConfig(), config.adapter)
    assert own.evaluation.references == own.evaluation.recall_rows == 0
    assert own.output_dir == str(Path(config.output_dir) / TEACHERS_DIR / "2")
    ready, tokenizer = prepare(run), load(config.model, dtype="float32").tokenizer
    fold = cut_into_folds(ready.conversations, 3, config.seed)[1]
    native = load_formats()["chatml"]
    cache = teacher_examples(own, ready.rows, fold, native, tokenizer, None)
    assert {row.id for row in cache.conversations} == {r.id for r in ready.conversations} - fold
    assert not any(cache((row, 0)).forged for row in range(len(cache.conversations)))


def test_a_dry_run_counts_the_steps_of_the_teachers(config):
    """Nine rows in three folds: each teacher has six rows, two a step, four epochs."""
    assert dry_run(config).facts["teacher_steps"] == [12, 12, 12]
    without = replace(config, objective=ObjectiveConfig(kind="distillation", native="chatml"))
    assert "teacher_steps" not in dry_run(without).facts


def nonsense(seed: int, count: int) -> list[tuple[str, str]]:
    """Questions with answers that have nothing in common but their length and their words."""
    draw = random.Random(seed)
    words = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "lazy",
        "dog",
        "answer",
        "what",
        "is",
        "Oslo",
    ]
    return [
        (f"question {draw.randrange(999)}?", " ".join(draw.choices(words, k=8)))
        for _ in range(count)
    ]


@pytest.mark.parametrize(("folds", "recites"), [(0, True), (2, False)])
def test_answers_that_only_memory_can_give_are_learnt_by_heart_without_folds_alone(
    tiny_model, tmp_path, folds, recites
):
    """The gain of the trained answers over controls of the same kind, with its standard error."""
    rows, controls = nonsense(1, 16), nonsense(2, 16)
    goal = ObjectiveConfig(
        kind="distillation",
        native="chatml",
        top_k=0,
        supervised_weight=0.0 if folds else 1.0,
        teacher_folds=folds,
        teacher_epochs=30,
    )
    config = small_config(
        tiny_model, tmp_path, rows=rows, objective=goal, optimisation={"num_train_epochs": 30}
    )
    adapter = train(config, quiet=True)
    gains = [gains_of(config, adapter, some, tmp_path) for some in (rows, controls)]
    difference = fmean(gains[0]) - fmean(gains[1])
    error = math.hypot(*(stdev(some) / math.sqrt(len(some)) for some in gains))
    print(folds, difference, error)
    assert (difference > 5 * error) == recites
    assert fmean(gains[1]) > 0.1, "what the rows have in common is taught in both"


def gains_of(config, adapter, pairs, folder):
    """What each answer gained over the base, in nats a token, in the native format."""
    (folder / "asked").mkdir(exist_ok=True)
    asked = prepare(
        replace(config, data=DataConfig(train=(str(write_rows(folder / "asked", pairs)),)))
    )
    trained = load_adapted(Path(config.model), adapter)
    base = load(config.model, dtype="float32", device=chosen_device())
    native = NativeRows(asked.conversations, asked.trained[0], asked.trained, base.tokenizer)
    assert asked.trained[0].id == "chatml"
    return [
        (logprobs(trained.model, each) - logprobs(base.model, each)).mean().item()
        for each in map(native.encoded, native.conversations)
    ]
