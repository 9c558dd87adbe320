from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.gate.thresholds import Tolerance, read_thresholds
from harness.metrics.registry import METRICS, Metric, Registry, lower_is_better
from harness.records import GROUPS
from harness.resources import data_dir

SHIPPED = {
    "stopped": 0.02, "empty": 0.02, "leak": 0.02, "role_run_on": 0.02, "echo": 0.02,
    "role_fault": 0.02, "loop": 0.02, "on_task": 0.03, "answer_strict": 0.03,
    "answer_lenient": 0.03, "choice": 0.02, "choice_norm": 0.02, "brier": 0.05, "flip": 0.05,
    "nll_excess": 0.15, "nll": 0.40, "drift": 0.02, "hazard": 0.03, "hazard_ref": 0.03,
    "copied": 0.02, "gptisms": 0.05, "forged": 0.02, "forged_plain": 0.05, "forged_none": 0.05,
    **dict.fromkeys(("call_valid", "call_exact", "call_when_none", "tool_answer"), 0.03),
    **dict.fromkeys(("thinks", "thinks_when_off"), 0.05),
    **dict.fromkeys(("thought_leak", "thought_drift"), 0.02),
}  # fmt: skip
LIMITS = ("stopped", "empty", "leak", "role_run_on", "echo", "loop", "drift")
SHIPPED_LIMITS = {
    "native": dict(zip(LIMITS, (0.90, 0.10, 0.02, 0.05, 0.10, 0.05, 0.02), strict=True)),
    "seen": dict(zip(LIMITS, (0.85, 0.10, 0.05, 0.10, 0.10, 0.10, 0.03), strict=True)),
    "held-out": dict(zip(LIMITS, (0.50, 0.30, 0.20, 0.30, 0.20, 0.20, 0.05), strict=True)),
}


def read(tmp_path: Path, text: str, formats: list[str] | None = None):
    file = tmp_path / "thresholds.toml"
    file.write_text(text, encoding="utf-8")
    return read_thresholds(file, formats)


def test_the_shipped_file_means_what_it_says():
    shipped = read_thresholds(data_dir("eval") / "thresholds.toml", ["chatml"])
    assert shipped.tolerances == {
        name: Tolerance(name, tolerance) for name, tolerance in SHIPPED.items()
    }
    assert shipped.absolute == SHIPPED_LIMITS
    assert set(shipped.absolute) == set(GROUPS)
    for metric in LIMITS:  # what was never trained is asked for less
        stricter = shipped.limit("native", metric) - shipped.limit("held-out", metric)
        assert stricter < 0 if lower_is_better(metric) else stricter > 0


def test_the_shipped_file_repeats_the_tolerances_that_the_metrics_declare(tmp_path):
    assert read(tmp_path, "").tolerances == {
        name: Tolerance(name, SHIPPED[name]) for name in METRICS if name in SHIPPED
    }


def test_a_metric_of_the_users_has_the_tolerance_that_it_declares(tmp_path, monkeypatch):
    registry = Registry()
    for name, tolerance in (("shouts", 0.2), ("whispers", None)):
        registry.add(lambda item: 1.0, (Metric(name, "answer", "x", "lower", tolerance=tolerance),))
    monkeypatch.setattr("harness.gate.thresholds.METRICS", registry)
    assert read(tmp_path, "").tolerances["shouts"] == Tolerance("shouts", 0.2)
    assert "whispers" not in read(tmp_path, "").tolerances
    found = read(tmp_path, "[tolerances]\nshouts = 0.1\nwhispers = 0.3\n").tolerances
    assert (found["shouts"].allowed, found["whispers"].allowed) == (0.1, 0.3)


def test_false_takes_a_metric_out_of_the_gate(tmp_path):
    found = read(tmp_path, "[tolerances]\nleak = false\nstopped = 0\n").tolerances
    assert "leak" not in found and found["stopped"].allowed == 0
    with pytest.raises(
        HarnessError, match=r"tolerances.groups.leak: leak has no tolerance of its own"
    ):
        read(tmp_path, "[tolerances]\nleak = false\n[tolerances.groups]\nleak = 0.1\n")


def test_a_format_and_a_group_may_have_their_own_tolerances(tmp_path):
    found = read(
        tmp_path,
        "[tolerances]\nstopped = 0.05\n[tolerances.groups]\nstopped = 0.03\n"
        '[tolerances.formats."vicuna-v1.1"]\nstopped = 0.2\n',
        ["vicuna-v1.1"],
    )
    stopped = found.tolerances["stopped"]
    assert (stopped.of("vicuna-v1.1"), stopped.of("chatml"), stopped.of_group) == (0.2, 0.05, 0.03)
    assert found.limit("native", "stopped") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tolerance]\nstopped = 0.1", "tolerance: unknown key — did you mean tolerances?"),
        ("[tolerances]\nstoped = 0.1", "tolerances: unknown metric 'stoped', did you mean stopped"),
        ("[tolerances]\nstopped = '0.1'", "tolerances.stopped: expected a valid number, not '0.1'"),
        ("[tolerances]\nstopped = true", "tolerances.stopped: expected a valid number, not True"),
        ("[tolerances]\nstopped = -0.1", "tolerances.stopped: expected greater than or equal to 0"),
        ("[tolerances]\nstopped = nan", "tolerances.stopped: expected a finite number, not nan"),
        ("[tolerances]\nformats = 3", "tolerances.formats: expected a valid dictionary, not 3"),
        (
            "[tolerances]\nstopped = 0.1\n[tolerances.formats.chatmi]\nstopped = 0.2",
            "tolerances.formats: unknown format 'chatmi' — did you mean chatml?",
        ),
        ("[tolerances.groups]\nstoped = 0.1", "tolerances.groups.stoped: unknown metric 'stoped'"),
        ("[absolute.nativ]\nstopped = 0.1", "absolute.nativ: expected 'native', 'seen' or"),
        ("[absolute.native]\nstopp = 0.1", "absolute.native.stopp: unknown metric 'stopp'"),
        ("[tolerances\n", "not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place_in_one_line(tmp_path, text, words):
    with pytest.raises(HarnessError) as error:
        read(tmp_path, text, ["chatml"])
    assert f"thresholds.toml: {words}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HarnessError, match="cannot read the thresholds"):
        read_thresholds(tmp_path / "none.toml")
