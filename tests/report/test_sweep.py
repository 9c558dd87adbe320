"""The sweep's document, its regions, and the map with its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from harness.cli.main import main
from harness.errors import HarnessError
from harness.report import document
from harness.report.document import Report, read_report
from harness.report.json_document import to_json
from harness.report.page import render_html
from harness.report.sweep_document import REGIONS, Sweep, map_tables, read_sweep, sweep_verdict
from harness.report.sweep_map import render_sweep, sweep_svg
from harness.report.write import render_markdown
from tests.report.fixture import make
from tests.report.sweeps import STEPS, point, points
from tests.report.test_report import parse


def regions(of) -> list:
    return [point.region for point in Sweep.from_points([of]).points[0].curve]


def test_regions_follow_from_the_pick_and_the_turn():
    low, good, high = points()
    assert regions(low) == ["under"] * 4 + ["good"]
    assert regions(good) == ["under"] * 3 + ["good"] * 2  # not surely turned: the last is not worse
    assert regions(high) == ["under", "good", "over", "over", "over"]
    assert (
        regions(point("1e-2", [2.0, 2.5, 3.0, 3.1, 3.2], pick=None, turn=0))
        == ["good"] + ["over"] * 4
    )
    assert regions(point("1e-2", [2.0], pick=None)) == [None]  # one checkpoint tells nothing


@given(
    st.lists(st.floats(0.1, 9), min_size=5, max_size=5),
    st.sampled_from([None, *STEPS]),
    st.sampled_from([None, *STEPS]),
)
@settings(max_examples=60, deadline=None)
def test_regions_follow_each_other(values, pick, turn):
    order = [
        list(REGIONS).index(region)
        for region in regions(point("1e-3", values, pick=pick, turn=turn))
    ]
    assert order == sorted(order)


def test_the_document_keeps_to_its_schema_and_survives_a_round_trip(tmp_path):
    schema = json.loads(Path(document.__file__).with_name("schema.json").read_text())
    validator = Draft202012Validator({"$ref": "#/$defs/Sweep", "$defs": schema["$defs"]})
    table = Sweep.from_points(points()).as_dict()
    validator.validate(table)
    Draft202012Validator(schema).validate({**make(), "sweep": table})
    (tmp_path / "sweep.json").write_text(json.dumps(table))
    assert read_sweep(tmp_path).as_dict() == read_sweep(tmp_path / "sweep.json").as_dict() == table
    table["points"][0]["curve"][0]["region"] = "burnt"
    with pytest.raises(ValidationError, match="burnt"):
        validator.validate(table)


def test_an_old_file_without_a_schema_is_read(tmp_path, capsys):
    (tmp_path / "sweep.json").write_text(json.dumps({"points": points()}))
    assert read_sweep(tmp_path).as_dict() == Sweep.from_points(points()).as_dict()
    assert main(["report", str(tmp_path / "sweep.json"), "--out", str(tmp_path / "again")]) == 0
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "map.png",
        "map.svg",
        "sweep.html",
    ]


def test_the_tables_have_the_numbers_of_the_map():
    sweep = Sweep.from_points(points())
    [table] = map_tables(sweep)
    assert table["epochs"] == [f"epoch {epoch}" for epoch in range(5)]
    assert [row["rate"] for row in table["rows"]] == ["1e-4", "1e-3", "5e-3"]
    assert table["rows"][2]["cells"][1] == {"text": "1.74", "region": "good", "notes": "★ picked"}
    assert table["rows"][2]["cells"][2] == {
        "text": "1.82",
        "region": "over",
        "notes": "○ recall begins",
    }
    page = render_sweep(sweep)
    for row in points():
        for entry in row["curve"]:
            assert f">{entry['nll_held_out']:.2f}" in page


def test_a_grid_over_more_gives_a_table_for_each_of_the_rest():
    rows = [
        point(rate, [2.0, 1.5], pick=4, **{"adapter.lora_r": r})
        for r in ("4", "16")
        for rate in ("1e-3", "1e-4")
    ]
    tables = map_tables(Sweep.from_points(rows))
    assert [table["title"] for table in tables] == ["lora_r = 4", "lora_r = 16"]
    assert [[row["rate"] for row in table["rows"]] for table in tables] == [
        ["1e-4", "1e-3"]
    ] * 2  # by number, not by text


def test_the_map_is_read_without_colour():
    """Regions are hatches and frames, and values are written into the boxes."""
    svg = sweep_svg(Sweep.from_points(points()))
    assert svg.count("<pattern") >= 2
    for value in ("2.14", "1.71", "2.38"):
        assert value in svg
    for word in ("under-trained", "good", "over-trained", "picked", "recall begins"):
        assert word in svg
    assert sweep_svg(Sweep.from_points(points())) == svg


def test_the_verdict_names_the_best_and_counts_the_turns():
    assert sweep_verdict(Sweep.from_points(points())) == (
        "nll_held_out is lowest with 1.710 nats a token at learning_rate 1e-3, epoch 3; "
        "1 of 3 runs passed the turning point."
    )
    begun = {
        "run": "runs/a",
        "settings": {"optimisation.learning_rate": "1e-3"},
        "done": False,
        "curve": [],
    }
    assert "None of 1 runs has been measured" in sweep_verdict(Sweep.from_points([begun]))
    parse(render_sweep(Sweep.from_points([begun])))


def test_what_the_grid_is_called_is_text():
    page = render_sweep(
        Sweep.from_points(
            [point("1e-3", [2.0, 1.5], pick=4, **{"data.train": "</script><img src=x>"})]
        )
    )
    assert "img" not in {tag for tag, _ in parse(page).tags}


def test_a_report_takes_the_map_in(tmp_path, capsys):
    (tmp_path / "r.json").write_text(to_json(Report.from_dict(make(formats=2))))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "sweep.json").write_text(json.dumps(Sweep.from_points(points()).as_dict()))
    assert (
        main(
            [
                "report",
                str(tmp_path / "r.json"),
                "--sweep",
                str(tmp_path / "runs"),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    report = read_report(tmp_path / "out" / "report.json")
    assert report.sweep == Sweep.from_points(points())
    assert render_html(report) == (tmp_path / "out" / "report.html").read_text()
    assert 'id="sweep"' in render_html(report) and "nll\\_held\\_out is lowest" in render_markdown(
        report
    )
    assert 'id="sweep"' not in render_html(Report.from_dict(make(formats=2)))


def test_another_file_is_refused(tmp_path, capsys):
    (tmp_path / "sweep.json").write_text(
        json.dumps({"schema": "harness-sweep/9", "points": points()})
    )
    with pytest.raises(HarnessError, match="harness-sweep/9"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text('{"points": []}')
    with pytest.raises(HarnessError, match="points: "):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({"points": points()}))
    assert main(["report", str(tmp_path / "sweep.json"), "--sweep", str(tmp_path)]) == 2
    assert "leave --sweep out" in capsys.readouterr().err
