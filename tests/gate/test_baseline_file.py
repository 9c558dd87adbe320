from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.gate.baseline import Baseline, BaselineEntry, FormatIdentity, rounded, to_baseline
from harness.gate.baseline_file import SCHEMA, baseline_text, read_baseline, write_baseline

names = st.text(min_size=1, max_size=8)
rates = st.sampled_from([0.0, 1.0, None])
numbers = st.none() | st.floats(-1e4, 1e4).map(rounded)


@st.composite
def baselines(draw) -> Baseline:
    formats = draw(
        st.dictionaries(
            names,
            st.builds(FormatIdentity, names, st.sampled_from(["native", "seen", "held-out"])),
            min_size=1,
            max_size=3,
        )
    )
    kinds = st.dictionaries(
        names, st.text("0123456789abcdef", min_size=8, max_size=8), min_size=1, max_size=5
    )
    cases = draw(st.dictionaries(st.sampled_from(["answer", "choice"]), kinds, min_size=1))
    entries = []
    for format_id in formats:
        for metric, column in (("stopped", rates), ("nll", numbers)):
            kind = draw(st.sampled_from(sorted(cases)))
            values = tuple(
                draw(st.lists(column, min_size=len(cases[kind]), max_size=len(cases[kind])))
            )
            scored = [value for value in values if value is not None]
            if scored:
                mean = rounded(sum(scored) / len(scored))
                entries.append(
                    BaselineEntry(
                        format_id, metric, mean, mean - 1, mean + 1, len(scored), kind, values
                    )
                )
    return Baseline(
        draw(st.text(max_size=5)),
        draw(names),
        "",
        draw(st.none() | names),
        {"dtype": "float32"},
        {"max_new_tokens": 64, "seed": 0},
        formats,
        cases,
        tuple(entries),
        draw(st.sampled_from([(), ("grammar:3:seed=5",)])),
    )


@given(baselines())
def test_what_is_written_is_what_is_read(tmp_path_factory, baseline):
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    write_baseline(baseline, path)
    assert read_baseline(path) == baseline
    assert baseline_text(read_baseline(path)) == path.read_text(encoding="utf-8")


def test_the_file_can_be_reviewed_in_a_diff(make_evaluation):
    values = {
        ("b", "stopped"): [1.0, 0.0, None],
        ("a", "stopped"): [1.0, 1.0, 1.0],
        ("a", "nll"): [1.25, None, 2.0],
    }
    text = baseline_text(to_baseline(make_evaluation(values, native="a")))
    json.loads(text)
    cells = [line.strip(" ,") for line in text.splitlines() if '"metric"' in line]
    assert len(cells) == 3
    assert '"values": [1.25, null, 2.0]' in cells[0]
    assert '"values": "111"' in cells[1]
    assert cells[2].startswith('{"format": "b", "metric": "stopped", "mean": 0.5, ')
    assert '"values": "10-"' in cells[2]
    changed = baseline_text(
        to_baseline(make_evaluation({**values, ("b", "stopped"): [0.0, 0.0, None]}, native="a"))
    )
    differing = [
        old for old, new in zip(text.splitlines(), changed.splitlines(), strict=True) if old != new
    ]
    assert len(differing) == 1


@pytest.fixture
def document(make_evaluation):
    values = {("a", "stopped"): [1.0, 0.0], ("a", "nll"): [1.5, 2.0]}
    return json.loads(baseline_text(to_baseline(make_evaluation(values))))


def change(document, path, value):
    *way, last = path
    for key in way:
        document = document[key]
    document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["schema"], SCHEMA + 1, f"schema {SCHEMA + 1}, this version reads {SCHEMA}"),
        (["model"], 3, "bad.json: model: expected a valid string, not 3"),
        (["native"], 3, "native: expected a valid string"),
        (["formats"], [], "formats: expected a valid dictionary"),
        (["formats", "a"], {"digest": "d"}, "formats.a.group: missing (and 2 more)"),
        (["formats", "a", "group"], "mine", "formats.a.group: expected 'native', 'seen' or"),
        (["formats", "a", "group"], [], "formats.a.group: expected 'native', 'seen' or"),
        (["formats", "a", "facts"], {"bos": 1}, "formats.a.facts.bos: expected a valid boolean"),
        (["cases", "answer"], [], "cases.answer: expected a valid dictionary"),
        (["cases", "answer", "answer-000"], 1, "cases.answer.answer-000: expected a valid string"),
        (["grammar"], "grammar:3", "grammar: expected a valid list"),
        (["nativ"], None, "nativ: unknown key — did you mean native?"),
        (["cells"], {}, "cells: expected a valid list"),
        (["cells", 1], 7, "cells[1]: expected a valid dictionary"),
        (["cells", 1, "metrics"], 7, "cells[1].metrics: unknown key — did you mean metric"),
        (["cells", 1, "n"], 2.0, "cells[1].n: expected a valid integer, not 2.0"),
        (["cells", 1, "n"], 1, "a stopped: n is 1"),
        (["cells", 1, "mean"], 0.75, "a stopped: mean is 0.75, but its values give 0.5000"),
        (["cells", 1, "mean"], "x", "cells[1].mean: expected a valid number, not 'x'"),
        (["cells", 1, "mean"], True, "cells[1].mean: expected a valid number, not True"),
        (["cells", 1, "mean"], 10**400, "cells[1].mean: expected a"),
        (["cells", 1, "format"], "b", "b stopped: the format has no digest"),
        (["cells", 1, "values"], "1x", "cells[1].values: expected only 0, 1 and -, not '1x'"),
        (["cells", 1, "values"], "10-", "3 values for 2 cases"),
        (["cells", 0, "values"], [1.5, True], "cells[0].values[1]: expected a valid number"),
        (["cells", 0, "values"], 5, "cells[0].values: expected a valid list"),
    ],
)
def test_a_bad_file_is_named_with_its_place(tmp_path, document, path, value, words):
    change(document, path, value)
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(HarnessError) as error:
        read_baseline(file)
    assert "bad.json" in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{\n"schema": 1,\n<<<<<<< HEAD\n', ":3: not JSON"),
        (b"", ":1: not JSON"),
        (b"[]", "not a baseline: it has no schema"),
        (b'{"cells": []}', "it has no schema"),
        (b'{"schema": NaN}', "NaN is not a number"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "not a baseline"),
        (b'{"schema": 1}', "schema 1, this version reads 2"),
        (b'{"schema": 2}', "name: missing (and 8 more)"),
    ],
)
def test_anything_but_a_baseline_is_refused(tmp_path, content, words):
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(HarnessError) as error:
        read_baseline(file)
    assert words in str(error.value)
    assert "--gate-update-baseline" in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(HarnessError, match="cannot read the baseline"):
            read_baseline(path)


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_a_write_that_fails_leaves_the_old_file_and_no_rest(
    tmp_path, make_evaluation, monkeypatch, owner, name
):
    path = tmp_path / "new" / "base.json"
    baseline = to_baseline(make_evaluation({("a", "stopped"): [1.0]}))
    write_baseline(baseline, path)
    old = path.read_bytes()

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(HarnessError, match="No space left"):
        write_baseline(to_baseline(make_evaluation({("a", "stopped"): [0.0]})), path)
    assert path.read_bytes() == old
    assert [file.name for file in path.parent.iterdir()] == ["base.json"]


def test_the_file_gets_the_users_usual_permissions(tmp_path, make_evaluation):
    path = tmp_path / "base.json"
    write_baseline(to_baseline(make_evaluation({("a", "stopped"): [1.0]})), path)
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
