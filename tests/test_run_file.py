"""run.json and metrics.jsonl: one reader each, and mistakes that name file and key."""

from __future__ import annotations

import json

import pytest

from harness.errors import HarnessError
from harness.run_file import (
    Branch,
    RunMetadata,
    measured_checkpoints,
    read_metrics,
    read_run_metadata,
    require_run_metadata,
    write_run_metadata,
)

BRANCH = Branch("..", "sha256:1", 4, 4, 4, "keep", {"optimisation.learning_rate": 1e-4})
METADATA = RunMetadata("sha256:2", ("chatml",), ("chatml",), (), {"seed": 0}, "/x", branch=BRANCH)


def test_what_is_written_is_read_back(tmp_path):
    assert read_run_metadata(tmp_path) is None
    write_run_metadata(tmp_path, METADATA)
    assert read_run_metadata(tmp_path) == METADATA
    with pytest.raises(HarnessError, match="other settings"):
        write_run_metadata(tmp_path, RunMetadata("sha256:3", (), (), (), {}))


def test_a_file_of_before_branches_is_read(tmp_path):
    keys = ("digest", "trained_formats", "trained_families", "held_out_formats", "config")
    record = {"digest": "d", **{key: ["chatml"] for key in keys[1:4]}, "config": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert require_run_metadata(tmp_path).directory == "."


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"digest": None}, r"run\.json: digest: "),
        ({"trained_formats": "chatml"}, r"run\.json: trained_formats: "),
        ({"branch": {"parent": ".."}}, r"run\.json: branch\.parent_digest: missing"),
    ],
)
def test_a_mistake_names_file_and_key(tmp_path, change, says):
    write_run_metadata(tmp_path, METADATA)
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(HarnessError, match=says):
        read_run_metadata(tmp_path)


def test_a_folder_without_a_run_says_what_to_give(tmp_path):
    with pytest.raises(HarnessError, match=r"no run here — give a folder"):
        require_run_metadata(tmp_path)


def test_a_cut_last_line_is_left_out_and_a_broken_one_is_named(tmp_path):
    file = tmp_path / "metrics.jsonl"
    assert read_metrics(tmp_path) == []
    step, checkpoint = {"kind": "step", "step": 1}, {"kind": "checkpoint", "step": 1}
    file.write_text(f'{json.dumps(step)}\n{json.dumps(checkpoint)}\n{{"kind": "st')
    assert read_metrics(tmp_path) == [step, checkpoint]
    assert measured_checkpoints(tmp_path) == [checkpoint]
    for line in ("{broken", "[1]"):
        file.write_text(f"{json.dumps(step)}\n{line}\n")
        with pytest.raises(HarnessError, match=r"metrics\.jsonl:2: not"):
            read_metrics(tmp_path)
