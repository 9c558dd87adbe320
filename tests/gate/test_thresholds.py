from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.evaluation.scorer import ANSWER_METRICS
from harness.gate.thresholds import MEASURES, lower_is_better, read_thresholds
from harness.records import GROUPS
from harness.resources import data_dir


def read(tmp_path: Path, text: str, formats: list[str] | None = None):
    file = tmp_path / "thresholds.toml"
    file.write_text(text, encoding="utf-8")
    return read_thresholds(file, formats)


def test_the_shipped_file_reads_and_gates_every_measure():
    shipped = read_thresholds(data_dir("eval") / "thresholds.toml", ["chatml"])
    assert set(shipped.margins) == MEASURES
    assert shipped.margins["stopped"].of("chatml") == 0.05
    assert set(shipped.absolute) == set(GROUPS)
    assert shipped.limit("native", "stopped") == 0.9
    for metric in shipped.absolute["native"]:  # what was never trained is asked for less
        stricter = shipped.limit("native", metric) - shipped.limit("held-out", metric)
        assert stricter < 0 if lower_is_better(metric) else stricter > 0


def test_every_measure_of_the_scorer_has_a_direction():
    assert (
        set(ANSWER_METRICS)
        | {
            "choice",
            "choice_norm",
            "nll",
            "nll_excess",
            "hazard_ref",
            "copied",
            "role_fault",
            "brier",
            "flip",
        }
        == MEASURES
    )
    assert {metric for metric in MEASURES if lower_is_better(metric)} == MEASURES - {
        "choice", "choice_norm", "on_task", "answer_strict", "answer_lenient", "stopped",
    }  # fmt: skip


def test_a_format_may_have_its_own_margin(tmp_path):
    found = read(
        tmp_path,
        '[margins]\nstopped = 0.05\n[margins.formats."vicuna-v1.1"]\nstopped = 0.2\n',
        ["vicuna-v1.1"],
    )
    assert found.margins["stopped"].of("vicuna-v1.1") == 0.2
    assert found.margins["stopped"].of("chatml") == 0.05
    assert found.limit("native", "stopped") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[margin]\nstopped = 0.1", ["unknown key 'margin'", "margins"]),
        ("[margins]\nstoped = 0.1", ["margins: unknown measure 'stoped'", "stopped"]),
        ("[margins]\nstopped = '0.1'", ["stopped = '0.1' is not a number"]),
        ("[margins]\nstopped = true", ["stopped = True is not a number"]),
        ("[margins]\nstopped = -0.1", ["from 0 upwards"]),
        ("[margins]\nstopped = nan", ["from 0 upwards"]),
        ("[margins]\nformats = 3", ["formats is a table"]),
        (
            "[margins]\nstopped = 0.1\n[margins.formats.chatmi]\nstopped = 0.2",
            ["unknown format 'chatmi'", "chatml"],
        ),
        (
            "[margins]\nleak = 0.1\n[margins.formats.chatml]\nstopped = 0.2",
            ["no margin: 'stopped'"],
        ),
        ("[absolute.nativ]\nstopped = 0.1", ["unknown group 'nativ'", "native"]),
        ("[absolute.native]\nstopp = 0.1", ["absolute.native: unknown measure"]),
        ("[margins\n", ["not TOML", "line 1"]),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text, words):
    with pytest.raises(HarnessError) as error:
        read(tmp_path, text, ["chatml"])
    for word in ["thresholds.toml", *words]:
        assert word in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HarnessError, match="cannot read the thresholds"):
        read_thresholds(tmp_path / "none.toml")
