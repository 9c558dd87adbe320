"""The rehearsal of benchmarks/gpu.py with its peers: TRL, lm-evaluation-harness, bitsandbytes."""

from __future__ import annotations

import pytest

from benchmarks.gpu_parts import PARTS
from tests.benchmarks.test_gpu_rehearsal import FIELDS, of_part, rehearse

pytestmark = pytest.mark.peers
ON_A_CARD = {"triton", "liger_kernel"}
"""Liger's kernels are written in Triton, which a CPU build of torch comes without."""


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    return rehearse(tmp_path_factory.mktemp("rehearsal"))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_is_measured(lines, part):
    for line in (found := of_part(lines, part.name)):
        if line["status"] == "missing":
            assert "liger" in part.name and line["library"] in ON_A_CARD, line
        else:
            assert line["status"] == "measured", line
            assert FIELDS[line["work"]] <= line.keys()
    assert found


def test_all_sides_computed_the_same(lines):
    """The same rows and losses, and the same probabilities but for a token of whitespace."""
    training = [line for line in lines if line.get("work") == "training"]
    for model in ("7b", "small"):
        sides = [line for line in training if line["model"] == model]
        assert {line["side"] for line in sides} == {"ours", "trl", "peft"}
        assert len({line["tokens"] for line in sides}) == 1
        for line in sides:
            assert line["losses"] == pytest.approx(sides[0]["losses"], abs=0.02)


def test_each_ratio_to_a_peer_has_a_figure(lines):
    ratios = [line for line in lines if line["part"] == "summary" and " by " in line["goal"]]
    missing = {line["goal"] for line in ratios if line["figure"] is None}
    assert missing == {"7B nf4 training, memory by peft"}  # a CPU has no allocator that counts
