"""Names of adapters and settings are written out in charts, whatever they hold."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.files import write_text
from harness.report.chart import plain_label, reliability_svg, spread_svg
from harness.report.document import Confidence, ConfidenceBin, SpreadRow
from harness.report.sweep_document import Sweep
from harness.report.sweep_map import sweep_svg
from harness.report.wording import visible
from tests.report.sweeps import point

BINS = (ConfidenceBin(0.4, 0.5, 3), ConfidenceBin(0.8, 0.7, 3))
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
