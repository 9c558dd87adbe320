"""benchmarks/gpu.py on the CPU with tiny models: every part leaves a line that a reader can use,
and one that fails, hangs or is killed leaves its own and stops no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks.gpu_parts import PARTS
from tests.patience import HANG_S

pytestmark = pytest.mark.local
ROOT = Path(__file__).parents[2]
LONG = ("--seconds", str(5 * HANG_S))
PEERS = {"trl", "datasets", "lm_eval", "triton", "liger_kernel", "bitsandbytes"}
FIELDS = {
    "training": {"side", "variant", "tokens_s", "supervised_s", "median_step_s", "busy", "losses"},
    "memory": {"predicted_GiB", "seen_GiB", "seen_by_predicted", "checkpointing"},
    "scoring": {"side", "variant", "requests_s", "tokens_s", "busy"},
    "generation": {"side", "variant", "requests_s", "tokens_s", "busy"},
    "resume": {"objective", "killed", "equal", "first_other_step"},
    "agreement": {"max_abs_nats", "picks", "answers", "equal"},
    "batch dependence": {"dtype", "alike_alone"},
    "facts": {"packages", "device", "copy_GB_s", "bfloat16_TFLOP_s"},
    "rows": {"tokens_a_step", "vocabulary"},
    "disk": {"write_s", "written_GB"},
    "load": {"load_s", "host_GiB"},
}


def rehearse(folder: Path, *options: str) -> list[dict]:
    """The lines of a rehearsal."""
    out = folder / "out.jsonl"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--out", str(out), *LONG, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=6 * HANG_S,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def of_part(lines: Iterable[dict], name: str) -> list[dict]:
    return [line for line in lines if line["part"] == name and line["status"] != "ended"]


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    return rehearse(tmp_path_factory.mktemp("rehearsal"))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_leaves_a_line_with_its_fields(lines, part):
    """Measured, or missing because of a peer's library that is not installed here."""
    found = of_part(lines, part.name)
    assert found
    for line in found:
        if line["status"] == "missing":
            assert line["library"].split(".")[0] in PEERS, line
        else:
            assert line["status"] == "measured", line
            assert FIELDS[line["work"]] <= line.keys()


def test_both_sides_did_the_same(lines):
    """Our trainer drew the rows of all others, resumed to the byte, and equals the CPU, which is
    what it ran on."""
    training = [line for line in lines if line.get("work") == "training"]
    ours = [line for line in training if line["side"] == "ours"]
    assert ours and all(line["same_rows"] for line in ours)
    for model in {line["model"] for line in training}:
        of_model = [line for line in training if line["model"] == model]
        assert len({line["tokens"] for line in of_model}) == 1
        for line in of_model:
            assert line["losses"] == pytest.approx(of_model[0]["losses"], abs=0.02)
    kept = [line for line in lines if line.get("work") in ("resume", "agreement")]
    assert len(kept) == 3 and all(line["equal"] for line in kept)
    assert all(line["killed"] for line in kept if line["work"] == "resume")


def test_each_goal_has_a_line_at_the_end(lines):
    summary = [line for line in lines if line["part"] == "summary"]
    assert [line["goal"] for line in summary] == [goal.name for goal in gpu_goals()]
    assert all(line["rehearsal"] for line in lines)


def gpu_goals():
    from benchmarks.gpu_goals import GOALS

    return GOALS


def test_a_part_that_fails_hangs_or_dies_stops_no_other(tmp_path):
    planted = {"facts": "raise", "small-score-ours": "hang", "small-generate-ours": "die"}
    lines = rehearse(
        tmp_path,
        *("--parts", ",".join([*planted, "agreement"])),
        *("--plant", ",".join(f"{part}={how}" for part, how in planted.items())),
    )
    (raised,) = of_part(lines, "facts")
    assert raised["status"] == "failed" and raised["message"] == "planted"
    assert "misbehave" in raised["traceback"]
    (hung,) = of_part(lines, "small-score-ours")
    assert (hung["status"], hung["limit_s"]) == ("timed out", 1.0)
    (died,) = of_part(lines, "small-generate-ours")
    assert (died["status"], died["exit_code"]) == ("died", -9)
    assert {line["status"] for line in of_part(lines, "agreement")} == {"measured"}
    met = {line["goal"]: line["met"] for line in lines if line["part"] == "summary"}
    assert met["small scoring by lm-eval"] is None
    assert met["picks and answers equal the CPU's"] is True


def test_processes_start_as_they_do_for_a_card(tmp_path):
    """Spawned and not forked, with the next one ready when a part fails."""
    options = ("--start", "spawn", "--parts", "facts,resume", "--plant", "facts=die")
    lines = rehearse(tmp_path, *options)
    assert [line["status"] for line in of_part(lines, "facts")] == ["died"]
    resumed = of_part(lines, "resume")
    assert [line["status"] for line in resumed] == ["measured"] * 2
    assert all(line["equal"] and line["killed"] for line in resumed)


def test_no_part_begins_when_no_time_is_left(tmp_path):
    lines = rehearse(tmp_path, "--seconds", "0", "--parts", "facts")
    assert [(line["part"], line["status"]) for line in lines if line["part"] != "summary"] == [
        ("rows", "skipped"),
        ("facts", "skipped"),
    ]
