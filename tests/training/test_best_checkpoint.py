"""From a run's log to the checkpoint to take and the reason."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.run_file import RunMetadata, write_run_metadata
from harness.training.selection.best_checkpoint import find_best_checkpoint
from harness.training.selection.memorisation import leaves_null

ITEMS = [f"dev-{number:03}" for number in range(12)]


def make_run(folder, curve, recall=None, missing=()):
    """A run folder with a log and empty checkpoints: the mean curve of twelve items that differ in
    difficulty, and gains of training answers."""
    folder.mkdir()
    write_run_metadata(
        folder, RunMetadata("sha256:0", (), (), (), {"optimisation": {"learning_rate": 0.01}}, ".")
    )
    lines = []
    for at, value in enumerate(curve):
        items = {
            item: round(value + 0.1 * number + 0.01 * ((number * 7 + at * 5) % 3 - 1), 6)
            for number, item in enumerate(ITEMS)
        }
        entry = {
            "kind": "checkpoint",
            "step": 4 * at,
            "epoch": at / 2,
            "sum_lr": 0.0,
            "nll_held_out": sum(items.values()) / 12,
            "nll_items_held_out": items,
        }
        if recall:
            rows = {f"row-{number}": -2.0 + recall[at] + 0.1 * number for number in range(8)}
            entry["recall_items"] = {
                "rows": rows,
                "controls": {f"control-{number}": -1.5 + 0.1 * number for number in range(8)},
            }
        lines.append(json.dumps(entry) + "\n")
        if at and 4 * at not in missing:
            (folder / f"checkpoint-{4 * at}").mkdir()
            (folder / f"checkpoint-{4 * at}" / "state.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def test_the_checkpoint_before_the_rise_is_named_with_its_reason(tmp_path):
    found = find_best_checkpoint(
        make_run(tmp_path / "run", [2.0, 1.6, 1.4, 1.5, 1.9]), resamples=200
    )
    assert (found.step, found.epoch, found.turn_step, found.turned) == (8, 1.0, 8, True)
    assert found.checkpoint.endswith("checkpoint-8") and found.turn_range == (8, 8)
    assert (
        "nll_held_out falls to 1.950 at step 8 (epoch 1) and then rises, to 2.450 at the last, in 100% of 200 resamples of 12 items."
        in found.reason
    )


def test_a_run_that_still_falls_has_not_turned(tmp_path):
    found = find_best_checkpoint(make_run(tmp_path / "run", [2.0, 1.6, 1.4, 1.3]), resamples=200)
    assert (
        not found.turned
        and found.turn_step is None
        and found.step == 12
        and "has not turned" in found.reason
    )


def test_a_run_that_only_rises_has_no_good_checkpoint_and_exits_1(tmp_path, capsys):
    run = make_run(tmp_path / "run", [1.0, 1.3, 1.6, 1.9])
    assert find_best_checkpoint(run, resamples=200).step is None
    assert main(["pick", str(run)]) == 1
    assert "lower the rate, or save earlier" in capsys.readouterr().out


def test_the_newest_kept_checkpoint_up_to_the_pick_is_named(tmp_path):
    found = find_best_checkpoint(
        make_run(tmp_path / "run", [2.0, 1.6, 1.4, 1.5, 1.9], missing=(8,)), resamples=200
    )
    assert found.step == 8 and found.checkpoint.endswith("checkpoint-4")


def test_of_checkpoints_that_cannot_be_told_apart_the_earliest_is_taken(tmp_path):
    run = make_run(tmp_path / "run", [2.0, 1.401, 1.4, 1.5, 1.9])
    found = find_best_checkpoint(run, resamples=200)
    assert (found.turn_step, found.step) == (8, 4)
    assert "Step 4 (1.951) is the earliest that is not significantly worse." in found.reason
    assert find_best_checkpoint(run, margin=0.0, resamples=200).step == 8


def test_recall_can_decide_and_is_told_beside_the_nll(tmp_path):
    run = make_run(tmp_path / "run", [2.0, 1.9, 1.8, 1.7, 1.6], recall=[0.0, 0.0, 0.3, 0.6, 0.9])
    by_nll, by_recall = (
        find_best_checkpoint(run, resamples=200),
        find_best_checkpoint(run, "recall"),
    )
    assert (
        by_nll.step == 16
        and by_nll.recall_from == 8
        and "known better than controls from step 8 on" in by_nll.reason
    )
    assert by_recall.turned and by_recall.step == 4 and by_recall.turn_step == 4


def test_mistakes_say_what_to_set(tmp_path):
    with pytest.raises(HarnessError, match="no run here"):
        find_best_checkpoint(tmp_path)
    run = make_run(tmp_path / "run", [2.0])
    with pytest.raises(HarnessError, match=r"fewer than two checkpoints.*evaluation\.references"):
        find_best_checkpoint(run)
    with pytest.raises(HarnessError, match="no turning point can be found in 'loss'"):
        find_best_checkpoint(run, "loss")
    with pytest.raises(HarnessError, match="no recall was measured"):
        find_best_checkpoint(run, "recall")


def test_json_holds_all_of_it(tmp_path, capsys):
    assert main(["pick", str(make_run(tmp_path / "run", [2.0, 1.6, 1.4, 1.5, 1.9])), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["step"] == 8 and found["turn_range"] == [8, 8] and found["measure"] == "nll_held_out"
    )


def test_recall_that_rows_and_controls_share_is_no_recall():
    start = {
        "rows": {f"r{n}": -2.0 for n in range(8)},
        "controls": {f"t{n}": -1.0 for n in range(8)},
    }
    both = {
        group: {id: value + 0.5 + 0.01 * int(id[1:]) for id, value in items.items()}
        for group, items in start.items()
    }
    assert not leaves_null(start, both)
    assert leaves_null(
        start, {**both, "rows": {id: value + 0.1 for id, value in both["rows"].items()}}
    )
    assert not leaves_null(
        start, {**both, "rows": {id: value - 0.1 for id, value in both["rows"].items()}}
    )
