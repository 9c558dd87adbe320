"""A branch changes the given settings and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.cli.main import main
from harness.errors import HarnessError
from harness.models import load
from harness.run_file import read_metrics, read_run_metadata
from harness.training.branch import BranchRequest, find_checkpoint, make_branch
from harness.training.config import CheckpointsConfig, EvaluationConfig, ScheduleConfig
from harness.training.runs.checkpoints import checkpoint_dirs, prune, read_state, step_of
from harness.training.runs.run_tree import children_of, root_of, run_tree
from harness.training.schedules import Schedule
from harness.training.start import resume, train
from tests.device import chosen_device

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def trained(shared_config):
    """Twelve steps at a constant rate, with a measured checkpoint every two."""
    config = replace(
        shared_config,
        schedule=ScheduleConfig(lr_scheduler_type="constant", warmup_ratio=0.0),
        evaluation=EvaluationConfig(references=2, formats_measured=1, recall_rows=0),
    )
    train(config, quiet=True)
    return Path(config.output_dir)


@pytest.fixture
def trunk(trained, tmp_path):
    """A copy of the trunk, to be branched."""
    return Path(shutil.copytree(trained, tmp_path / "trunk"))


def steps(run):
    return [entry for entry in read_metrics(run) if entry["kind"] == "step"]


def test_a_branch_that_changes_nothing_ends_bit_for_bit_like_its_trunk(trunk):
    branch = make_branch(BranchRequest(trunk, "step:6"))
    assert (resume(branch, quiet=True) / WEIGHTS).read_bytes() == (
        trunk / "adapter" / WEIGHTS
    ).read_bytes()
    measured = [
        [
            entry["nll_seen"]
            for entry in read_metrics(run)
            if entry["kind"] == "checkpoint" and entry["step"] >= 6
        ]
        for run in (trunk, branch)
    ]
    assert measured[0] == measured[1]


def test_a_cosine_goes_on_or_begins_anew_as_asked(run_config):
    train(run_config, quiet=True)
    trunk = Path(run_config.output_dir)
    rates = {}
    for schedule in ("continue", "restart"):
        branch = make_branch(
            BranchRequest(trunk, "step:6", schedule=schedule, out=trunk.with_name(schedule))
        )
        adapter = resume(branch, quiet=True)
        rates[schedule] = [entry["learning_rate"] for entry in steps(branch)]
        same = (adapter / WEIGHTS).read_bytes() == (trunk / "adapter" / WEIGHTS).read_bytes()
        assert same == (schedule == "continue")
    assert rates["continue"] == [entry["learning_rate"] for entry in steps(trunk)][6:]
    assert rates["restart"] == [
        1e-2 * Schedule(ScheduleConfig(warmup_steps=1), 6).factor(step) for step in range(6)
    ]


def test_the_branch_really_takes_the_lower_rate(trunk):
    """transformers' LambdaLR would restore the old rate on loading; here the next steps use a
    tenth."""
    branch = make_branch(BranchRequest(trunk, "step:6", ("learning_rate=1e-3",)))
    resume(branch, quiet=True)
    assert (
        {entry["learning_rate"] for entry in steps(branch)}
        == {1e-3}
        != {entry["learning_rate"] for entry in steps(trunk)}
    )
    before = load_file(trunk / "checkpoint-6" / WEIGHTS)
    moved = [
        sum(
            (load_file(run / "checkpoint-8" / WEIGHTS)[name] - before[name]).abs().sum()
            for name in before
        )
        for run in (branch, trunk)
    ]
    assert 0.05 < moved[0] / moved[1] < 0.2
    assert steps(branch)[-1]["sum_lr"] == pytest.approx(6 * 1e-2 + 6 * 1e-3)


def test_the_optimiser_is_kept_or_reset(trunk):
    kept = make_branch(
        BranchRequest(trunk, "step:6", optimizer="keep", out=trunk.with_name("kept"))
    )
    fresh = make_branch(
        BranchRequest(trunk, "step:6", optimizer="reset", out=trunk.with_name("fresh"))
    )
    assert (kept / "checkpoint-6" / "optimizer.safetensors").read_bytes() == (
        trunk / "checkpoint-6" / "optimizer.safetensors"
    ).read_bytes()
    assert load_file(fresh / "checkpoint-6" / "optimizer.safetensors") == {}
    resume(fresh, quiet=True)
    found = load_file(fresh / "checkpoint-8" / "optimizer.safetensors")
    assert {float(value) for name, value in found.items() if name.endswith("|step")} == {2.0}


def test_another_alpha_is_refused_unless_b_is_rescaled(trunk):
    with pytest.raises(
        HarnessError,
        match=r"lora_alpha 8 → 24 would multiply the adapter's output by 3 — --rescale-b",
    ):
        make_branch(BranchRequest(trunk, "step:6", ("lora_alpha=24",)))
    assert not (trunk / "branches").exists()


@pytest.mark.parametrize(("alpha", "exact"), [(16, True), (24, False)])
def test_with_b_rescaled_the_logits_are_equal(trunk, tiny_model, alpha, exact):
    branch = make_branch(BranchRequest(trunk, "step:6", (f"lora_alpha={alpha}",), rescale_b=True))
    ids = torch.arange(3, 40, device=chosen_device()).unsqueeze(0)
    logits = []
    for checkpoint in (trunk / "checkpoint-6", branch / "checkpoint-6"):
        model = load(
            str(tiny_model), adapter=str(checkpoint), dtype="float32", device=chosen_device()
        ).model
        with torch.no_grad():
            logits.append(model(ids).logits)
    assert torch.equal(*logits) if exact else torch.allclose(*logits, atol=1e-5)
    resume(branch, quiet=True)
    assert read_run_metadata(branch).branch.rescaled_b == pytest.approx(8 / alpha)


def test_the_moments_are_those_that_the_rescaled_run_would_have(trunk):
    """B' = B / 2 under twice the alpha has a gradient twice as large, so m' = 2 m and v' = 4 v;
    those of A stay."""
    branch = make_branch(BranchRequest(trunk, "step:6", ("lora_alpha=16",), rescale_b=True))
    old, new = (
        load_file(run / "checkpoint-6" / "optimizer.safetensors") for run in (trunk, branch)
    )
    for name, value in old.items():
        power = (
            0
            if "lora_A" in name or name.endswith("|step")
            else 1
            if name.endswith("|exp_avg")
            else 2
        )
        assert torch.equal(new[name], value * 2.0**power), name


@pytest.mark.parametrize("setting", ["lora_r=8", "model=other", "lora_target_modules=q_proj"])
def test_what_the_weights_rest_on_cannot_change(trunk, setting):
    with pytest.raises(HarnessError, match="would have another meaning"):
        make_branch(BranchRequest(trunk, "step:6", (setting,)))


def test_mistakes_name_what_there_is(trunk):
    with pytest.raises(HarnessError, match=r"no checkpoint at step:5 — there are steps 2, 4, 6"):
        make_branch(BranchRequest(trunk, "step:5"))
    with pytest.raises(
        HarnessError,
        match="nothing is left to train: the checkpoint is at epoch 4 of 4 — --set num_train_epochs=5",
    ):
        make_branch(BranchRequest(trunk, "last"))
    with pytest.raises(HarnessError, match="did you mean"):
        make_branch(BranchRequest(trunk, "step:6", ("learning_rat=1",)))
    with pytest.raises(HarnessError, match=r"data\.train or formats\.train"):
        make_branch(BranchRequest(trunk, "step:6", ("train=x",)))
    with pytest.raises(HarnessError, match="invalid --from"):
        make_branch(BranchRequest(trunk, "somewhere"))
    make_branch(BranchRequest(trunk, "step:6"))
    with pytest.raises(HarnessError, match="the folder exists already"):
        make_branch(BranchRequest(trunk, "step:6"))


def test_an_epoch_means_the_newest_checkpoint_up_to_it(trunk):
    assert [
        step_of(find_checkpoint(trunk, at)) for at in ("epoch:2", "epoch:1.9", "epoch:4", "last")
    ] == [6, 4, 12, 12]


def test_another_batch_size_goes_on_from_the_same_place_in_the_data(trunk):
    branch = make_branch(BranchRequest(trunk, "epoch:2", ("per_device_train_batch_size=1",)))
    assert [path.name for path in checkpoint_dirs(branch)] == ["checkpoint-10"] and read_state(
        branch / "checkpoint-10"
    )["epoch"] == 2.0
    resume(branch, quiet=True)
    assert steps(branch)[-1]["step"] == 20


def test_the_tree_knows_its_branches_and_outlives_a_move(trunk, tmp_path):
    first = make_branch(BranchRequest(trunk, "step:6", ("learning_rate=1e-3",)))
    resume(first, quiet=True)
    second = make_branch(BranchRequest(first, "step:8", ("learning_rate=1e-4",)))
    assert root_of(second) == trunk and children_of(trunk) == [first]
    moved = tmp_path / "elsewhere"
    shutil.move(trunk, moved)
    tree = run_tree(moved)
    [child] = tree.children
    [grandchild] = child.children
    assert (tree.state, child.state, grandchild.state) == ("finished", "finished", "interrupted")
    assert (
        child.branched_at == 6
        and child.changed == {"optimisation.learning_rate": 1e-3}
        and child.steps == (6, 12)
    )
    assert (
        tree.measure == "nll_seen"
        and tree.first[0] == 0
        and tree.last[0] == 12
        and tree.best[1] <= tree.last[1]
    )
    assert root_of(grandchild.run) == moved
    assert (
        json.loads(json.dumps(tree.as_dict()))["children"][0]["children"][0]["learning_rate"]
        == 1e-4
    )


def test_a_branch_point_is_never_removed(trunk):
    make_branch(BranchRequest(trunk, "step:4"))
    prune(trunk, CheckpointsConfig(save_total_limit=1), {})
    assert [step_of(path) for path in checkpoint_dirs(trunk)] == [4, 12]


def test_a_branch_lives_without_its_trunk(trunk, tmp_path):
    branch = make_branch(BranchRequest(trunk, "step:4", out=tmp_path / "own"))
    shutil.rmtree(trunk)
    assert (resume(branch, quiet=True) / WEIGHTS).is_file()
    assert root_of(branch) == branch


def test_the_commands_branch_draw_and_resume_from_anywhere(trunk, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                "branch",
                str(trunk),
                "--from",
                "step:6",
                "--set",
                "learning_rate=1e-3",
                "--set",
                "num_train_epochs=5",
                "--only-create",
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (
        Path(told["run"]).name == "step-6_learning_rate-0.001_num_train_epochs-5"
        and told["adapter"] is None
    )
    assert main(["resume", told["run"], "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["adapter"], WEIGHTS).is_file()
    assert main(["tree", told["run"]]) == 0
    first, second = capsys.readouterr().out.rstrip().splitlines()
    assert first.startswith("trunk  learning_rate = 0.01  steps 0–12, finished  nll_seen ")
    assert (
        "└── @6 step-6" in second
        and "learning_rate = 0.001, num_train_epochs = 5" in second
        and "steps 6–15, finished" in second
    )
    assert main(["tree", str(trunk), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["children"][0]["steps"] == [6, 15]
    assert main(["tree", str(tmp_path)]) == 2 and "no run here" in capsys.readouterr().err
