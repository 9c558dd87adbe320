"""The pages: pure, small, and safe from model text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import MISSING, fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from harness.errors import HarnessError
from harness.metrics.registry import METRICS
from harness.report import document
from harness.report.document import Report, read_report
from harness.report.json_document import to_json
from harness.report.page import render_html
from harness.report.wording import visible
from harness.report.write import render_markdown, write_report
from tests.report.fixture import make, report

HOSTILE = (
    "</script><img src=x onerror=alert(1)><style>*{display:none}</style> "
    "\u202eright to left \x00 \ud800 end"
)


class Tags(HTMLParser):
    """Every tag with its attributes; asserts that what opens also closes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return tags


def test_the_same_report_gives_the_same_bytes():
    assert render_html(report()) == render_html(report())
    assert render_markdown(report()) == render_markdown(report())


def test_json_survives_a_round_trip(tmp_path):
    first = report(answer=HOSTILE)
    write_report(first, tmp_path)
    assert to_json(read_report(tmp_path / "report.json")) == to_json(first)


def test_a_report_keeps_to_its_published_schema(tmp_path):
    schema = json.loads(Path(document.__file__).with_name("schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    table = json.loads(to_json(report(answer=HOSTILE)))
    Draft202012Validator(schema).validate(table)
    table["runs"][0]["cells"][0]["mean"] = "much"
    with pytest.raises(ValidationError, match="much"):
        Draft202012Validator(schema).validate(table)
    assert set(schema["properties"]) == {field.name for field in fields(Report)}


def assert_only_text(page: str) -> None:
    """A page that shows HOSTILE holds none of it as markup, and names what cannot be seen."""
    tags = parse(page)
    names = [tag for tag, _ in tags.tags]
    assert (
        not {"img", "iframe", "link"} & set(names)
        and names.count("script") == names.count("style") == 1
    )
    assert not any(name.startswith("on") for _, attributes in tags.tags for name in attributes)
    assert "⟨U+202E⟩" in page and "⟨U+0000⟩" in page and "⟨U+D800⟩" in page
    assert "\u202e" not in page and "\x00" not in page
    page.encode("utf-8")


def test_hostile_answers_are_text():
    assert_only_text(
        render_html(
            Report.from_dict(
                {**make(answer=HOSTILE), "training": None, "spread": [], "confidence": []}
            )
        )
    )


@given(st.text(max_size=60))
@settings(max_examples=40)
def test_any_answer_leaves_the_page_whole(answer):
    table = make(formats=2, samples=1, answer=answer)
    tags = parse(render_html(Report.from_dict({**table, "training": None, "spread": []})))
    assert sum(tag == "h1" for tag, _ in tags.tags) == 1
    assert (
        "img" not in {tag for tag, _ in tags.tags}
        and [tag for tag, _ in tags.tags].count("script") == 1
    )


def test_one_script_may_run_and_it_is_ours():
    page = render_html(report(answer=HOSTILE))
    [script] = re.findall(r"<script>(.*?)</script>", page, re.S)
    allowed = re.search(r"script-src '([^']+)'", page)[1]
    assert (
        allowed == "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    )
    assert "unsafe-eval" not in page and page.count("script-src") == 1


def test_nothing_is_fetched_and_nothing_runs():
    page = render_html(report())
    assert "default-src 'none'" in page
    addresses = [
        value
        for _, attributes in parse(page).tags
        for name, value in attributes.items()
        if name in ("src", "href", "action") and value
    ]
    assert addresses and all(address.startswith("#") for address in addresses)


def test_sixty_formats_and_two_hundred_samples_stay_under_a_megabyte():
    page = render_html(report(formats=60, runs=1, samples=4, answer="word " * 60))
    assert len(page.encode()) < 1_000_000


def test_a_megabyte_of_answer_is_cut_and_says_so():
    page = render_html(report(formats=1, samples=1, runs=1, answer="a" * 1_000_000))
    assert len(page) < 150_000 and "more characters" in page


def test_every_format_and_metric_has_its_cell():
    page = render_html(report(formats=5))
    rows = re.findall(r'<tr id="f-(format-\d+)".*?</tr>', page, re.S)
    assert sorted(rows) == [f"format-0{at}" for at in range(5)]
    for row in re.findall(r'<tr id="f-format-\d+".*?</tr>', page, re.S):
        assert row.count("<td") == row.count("data-value=") == len(METRICS)
        assert row.count(" → ") >= len(METRICS)  # before and after
        assert row.count('class="strip"') == 6


def test_the_markdown_fits_a_comment_and_breaks_no_table():
    text = render_markdown(report(formats=60))
    assert len(text) < 60_000
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 62 and len({line.count("|") for line in rows}) == 1


def test_what_was_not_scored_is_no_zero():
    table = make(formats=1, runs=1)
    table["runs"][0]["cells"] = [
        {
            "format": "format-00",
            "group": "native",
            "metric": "leak",
            "mean": None,
            "low": None,
            "high": None,
            "n": 0,
            "not_scored": 7,
        }
    ]
    assert "not scored (7 cases)" in render_html(Report.from_dict(table))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a report"),
        ("{}", "no schema, expected harness-report/1"),
        ('{"schema": "other/2"}', "is not harness-report/1"),
        ('{"schema": "harness-report/1"}', r"title: missing \(and 6 more\)"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(HarnessError, match=message):
        read_report(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["runs"][1]["cells"][3].update(mean="much"), r"runs\[1\]\.cells\[3\]\.mean: "),
        (
            lambda t: t["runs"][0]["cells"][0].update(n=0),
            r"runs\[0\]\.cells\[0\]: .* a mean without",
        ),
        (lambda t: t["samples"][0].pop("answer"), r"samples\[0\]\.answer: missing"),
        (
            lambda t: t["samples"][0].update(finish="tired"),
            "'stop', 'length' or 'error', not 'tired'",
        ),
        (lambda t: t.update(runs=[]), "runs: "),
    ],
)
def test_a_wrong_value_is_named_by_its_key(change, message):
    table = make(formats=2)
    Report.from_dict(table)
    change(table)
    with pytest.raises(HarnessError, match=message) as caught:
        Report.from_dict(table, "r.json")
    assert str(caught.value).startswith("r.json: ") and "\n" not in str(caught.value)


def test_a_report_with_the_required_keys_alone_is_read(tmp_path):
    names = {f.name for f in fields(Report) if f.default is MISSING} | {"schema", "samples"}
    table = {name: value for name, value in make(formats=2).items() if name in names}
    for sample in table["samples"]:
        del sample["stop"], sample["marks"][0]["note"]
    for facts in table["formats"]:
        del facts["origin"]
    found = Report.from_dict(table)
    assert parse(render_html(found)) and render_markdown(found)
    assert found.samples[0].stop == "" and found.across == ()


def test_keys_of_other_versions_are_ignored_and_optional_ones_stay_away():
    table = make(formats=2)
    table["runs"][0]["cells"][0]["of_tomorrow"] = table["of_tomorrow"] = 1
    written = json.loads(to_json(Report.from_dict(table)))
    assert "of_tomorrow" not in written["runs"][0]["cells"][0]
    assert "spread" not in written["confidence"][0] and "objects" not in written["confidence"][0]
    assert written["across"][0]["worst"] is None


def test_the_command_writes_the_pages_again(tmp_path, capsys):
    from harness.cli.main import main

    (tmp_path / "r.json").write_text(json.dumps(make(formats=3)))
    assert main(["report", str(tmp_path / "r.json"), "--out", str(tmp_path / "pages")]) == 0
    assert (tmp_path / "pages" / "report.html").read_text() == render_html(report(formats=3))
    assert "report.md" in capsys.readouterr().out


@given(st.text())
def test_visible_text_holds_nothing_that_hides(text):
    shown = visible(text, 10_000)
    assert not any(
        0xD800 <= ord(c) <= 0xDFFF
        or (ord(c) < 32 and c not in "\n\t")
        or c in "\u202a\u202b\u202d\u202e\u2066\u2067"
        for c in shown
    )


def test_checkpoints_are_tables_of_references_and_of_recall():
    table = make()
    table["training"] = {
        "schedule": "cosine",
        "steps": [{"step": 1, "loss": 2.0, "learning_rate": 1e-3, "sum_lr": 1e-3}],
        "checkpoints": [
            {
                "step": 0,
                "epoch": 0.0,
                "sum_lr": 0.0,
                "nll_native": 1.9,
                "hazard_native": 0.0012,
                "recall": {"chatml": 0.01, "alpaca": -0.02},
            },
            {
                "step": 9,
                "epoch": 1.5,
                "sum_lr": 0.01,
                "nll_native": 1.5,
                "hazard_native": 0.0021,
                "recall": {"chatml": 0.75},
            },
        ],
    }
    page = render_html(Report.from_dict(table))
    for words in (
        "Recall gained, format by checkpoint",
        "References at each checkpoint",
        "step 9",
        "<td>+0.74</td>",
        "<td>+0.00</td><td>–</td>",
        "<td>0.0012</td>",
    ):
        assert words in page
    table["training"]["checkpoints"] = []
    assert "Recall excess" not in render_html(Report.from_dict(table))


def test_canned_phrases_are_shown_with_their_lift():
    table = make()
    row = {
        "kind": "closing",
        "rates": {"before": 1.25, "after": 0.0},
        "training": None,
        "lift_over_base": 0.2,
        "lift_over_training": None,
        "worst": "",
    }
    new = {"text": "<b>let us", "texts": 9, "base_texts": 0, "z": 4.2}
    table["phrases"] = {"kinds": [row], "against": "the base run", "new": [new]}
    page = render_html(Report.from_dict(table))
    numbers = "".join(f"<td>{text}</td>" for text in ("1.25", "0.00", "–", "0.20", "–", "–"))
    assert f'<th scope="row">closing</th>{numbers}' in page
    assert "<q>&lt;b&gt;let us</q> (9, 0)" in page and "the base run" in page
    table["phrases"] = {"kinds": [row], "against": "the base run", "new": []}
    assert "No phrase is used significantly more" in render_html(Report.from_dict(table))
