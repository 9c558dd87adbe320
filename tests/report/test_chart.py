"""Names of adapters and settings are written out in charts, whatever they hold."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.files import write_text
from harness.report.chart import plain_label, reliability_svg, spread_svg, training_svg
from harness.report.document import Confidence, ConfidenceBin, SpreadRow, Training
from harness.report.sweep_document import Sweep
from harness.report.sweep_map import sweep_svg
from harness.report.wording import visible
from tests.report.sweeps import point

BINS = (ConfidenceBin(0.4, 0.5, 30), ConfidenceBin(0.8, 0.7, 30))
MATHEMATICS = r"$\frac{$"


def charts(name):
    row = SpreadRow(name, "choice", 1.0, 0.0, 0.5, 0.4, 0.1, 0.3, 0.02, 18, 9)
    runs = [
        point(rate, [2.0, 1.9, 1.8, 1.7, 1.6], pick=16, model=name) for rate in ("1e-4", "1e-3")
    ]
    return [
        reliability_svg([Confidence(name, reliability=BINS)]),
        spread_svg([row]),
        sweep_svg(Sweep.from_points(runs)),
    ]


@pytest.mark.parametrize("name", [MATHEMATICS, "$x$", r"a\$b$", "$", "_hidden", "<b>&"])
def test_a_name_is_written_out_and_the_chart_is_well_formed(name):
    for chart in charts(name):
        assert name in "".join(ElementTree.fromstring(chart).itertext())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2Jb", "a⟨U+001B⟩[2Jb"),
        ("half \ud83d", "half ⟨U+D83D⟩"),
        ("read \u202ebackwards", "read ⟨U+202E⟩backwards"),
        ("no\ufffecharacter", "no⟨U+FFFE⟩character"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_on_the_page_around_the_chart(name, shown):
    assert visible(name) == shown
    for chart in charts(name):
        assert shown in "".join(ElementTree.fromstring(chart).itertext())


@settings(max_examples=15)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_any_name_makes_a_chart(name):
    chart = ElementTree.fromstring(reliability_svg([Confidence(name, reliability=BINS)]))
    assert chart.tag.endswith("svg")


def test_a_plain_name_stays_as_it_is():
    assert plain_label("my adapter") == "my adapter"


def test_half_a_character_in_a_report_is_written_as_json_does(tmp_path):
    """A file name that is no UTF-8 reaches Python as such halves."""
    write_text(tmp_path / "x", "a \udce4 b")
    assert (tmp_path / "x").read_text() == r"a \udce4 b"


def test_bins_of_few_items_make_no_diagram():
    few = (*BINS, ConfidenceBin(0.9, 1.0, 9))
    assert reliability_svg([Confidence("a", reliability=few)]) == ""
    both = reliability_svg([Confidence("few", reliability=few), Confidence("many", None, BINS)])
    assert "many" in both and "few" not in both


def test_a_training_is_drawn_by_step():
    steps = [{"step": n, "loss": 2.0, "learning_rate": 1e-4, "sum_lr": 1e-4} for n in (1, 200)]
    chart = training_svg(Training("constant", tuple(steps), ()))
    texts = [text for _, text in texts_of(chart)]
    assert "step" in texts and "200" in texts and not any("learning rate" in text for text in texts)


def test_close_values_are_written_out_beside_the_map():
    runs = [point("1e-4", [10.831, 10.833, 10.834, 10.8345], pick=4)]
    texts = [text for _, text in texts_of(sweep_svg(Sweep.from_points(runs)))]
    assert not any("+" in text or "e1" in text for text in texts)
    assert any(text.startswith("10.83") for text in texts)


def texts_of(chart):
    """(tag, text) of each text of a chart."""
    return [
        (each.tag, "".join(each.itertext()).strip())
        for each in ElementTree.fromstring(chart).iter()
        if each.tag.endswith("text")
    ]
