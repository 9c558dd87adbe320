"""harness recall, drift, phrases and data canaries: one line a text, then a summary."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main

COPIED = (
    "The harbour was quiet when the last ferry came in, and the old pilot counted the lamps along "
    "the quay as he had done every evening for thirty years without missing one."
)
OTHER = (
    "A good loaf needs four things, flour and water and salt and time, and of these the last is "
    "what most people are least willing to give it in the end."
)
HOSTILE = [
    "",
    " \n\t",
    "\x00\x01\x02",
    "\ud800 lone",
    "\u202eright to left\u202c עברית",
    "🙂" * 500,
    "a" * 200_000,
    "x " * 50_000,
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def printed(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def trained(tmp_path):
    rows = [
        {
            "id": "ferry",
            "messages": [
                {"role": "user", "content": "Tell me."},
                {"role": "assistant", "content": COPIED},
            ],
        },
        {"id": "bread", "text": OTHER},
    ]
    return write(tmp_path / "train.jsonl", rows)


def test_copied_edited_misplaced_and_innocent_are_distinguished(tmp_path, trained, capsys):
    edited = COPIED.replace("quiet", "silent").replace("thirty", "twenty")
    innocent = (
        "Dinner was late because the train had stopped twice between the stations, and nobody "
        "on it had thought to bring a book or a sandwich for so long a way."
    )
    outputs = [
        {"id": "ferry", "text": COPIED},
        {"id": "b", "text": "Well. " + edited},
        {"id": "bread", "text": COPIED},
        {"id": "c", "text": innocent},
    ]
    assert (
        main(["recall", write(tmp_path / "out.jsonl", outputs), "--against", trained, "--json"])
        == 0
    )
    last = printed(capsys)
    rows = last["outputs"]
    assert [row["near"] for row in rows] == [True, True, True, False]
    assert [row["misplaced"] for row in rows] == [False, True, True, False]
    assert {row["source"] for row in rows[:3]} == {"ferry"}
    start, end = rows[1]["span"]
    assert ("Well. " + edited)[start:end].startswith("The harbour was") and COPIED[
        slice(*rows[1]["source_span"])
    ].endswith("missing one")
    assert set(rows[0]) >= {
        "id",
        "near",
        "span_words",
        "span_chars",
        "source",
        "source_span",
        "indel",
        "nv_recall",
        "copied_frac",
    }
    assert last["summary"]["near"]["mean"] == 0.75 and last["summary"]["scored"] == 4


def test_an_interval_that_is_withheld_says_why(tmp_path, trained, capsys):
    command = ["recall", write(tmp_path / "out.jsonl", [{"id": "a", "text": COPIED}]), "--against"]
    assert main([*command, trained]) == 0
    why = "1 items are too few, 30 are needed"
    assert f"near-verbatim (no interval: {why})" in capsys.readouterr().out
    assert main([*command, trained, "--json"]) == 0
    summary = printed(capsys)["summary"]
    assert summary["nv_recall"] == {"mean": 1.0, "low": None, "high": None, "why": why}
    assert "why" not in summary["near"]


def test_a_kept_index_gives_the_same_lines(tmp_path, trained, capsys):
    outputs = write(
        tmp_path / "out.jsonl", [{"id": "a", "text": COPIED}, {"id": "b", "text": "Nothing of it."}]
    )
    assert (
        main(
            [
                "recall",
                outputs,
                "--against",
                trained,
                "--save-index",
                str(tmp_path / "index"),
                "--json",
            ]
        )
        == 0
    )
    first = capsys.readouterr().out
    assert main(["recall", outputs, "--against", str(tmp_path / "index"), "--json"]) == 0
    assert capsys.readouterr().out == first


def test_the_null_is_what_is_shared_by_chance(tmp_path, trained, capsys):
    outputs = write(tmp_path / "out.jsonl", [{"text": COPIED}] * 4 + [{"text": OTHER}])
    null = write(tmp_path / "null.jsonl", [{"text": OTHER}])
    assert main(["recall", outputs, "--against", trained, "--controls", null, "--json"]) == 0
    summary = printed(capsys)["summary"]
    assert summary["near"]["mean"] == 1.0 and summary["near_null"]["mean"] == 0.2
    assert summary["near_excess"]["mean"] == pytest.approx(0.8)
    assert "too high" in summary["note"]
    assert main(["recall", outputs, "--against", trained]) == 0
    assert "no controls" in capsys.readouterr().out


def test_drift_says_where_and_why(tmp_path, capsys):
    texts = [
        {"id": "zh", "text": "这是一个完全用中文写的回答，没有一个英文单词。"},
        {"id": "en", "text": OTHER},
        {
            "id": "late",
            "text": OTHER
            + " Und dann ging er ohne ein weiteres Wort nach Hause, "
            + "weil es schon dunkel geworden war.",
        },
        {"id": "short", "text": "Ja."},
    ]
    assert (
        main(["drift", write(tmp_path / "t.jsonl", texts), "--expect-language", "en", "--json"])
        == 0
    )
    last = printed(capsys)
    rows = last["texts"]
    assert [row["drift"] for row in rows] == [True, False, True, None]
    assert rows[0]["off_script"] == rows[0]["sticky"] == 1.0 and rows[0]["onset_char"] == 0
    assert len(OTHER) - 5 < rows[2]["onset_char"] < len(OTHER) + 12 and rows[2]["languages"] == [
        "de"
    ]
    assert rows[3]["why"].startswith("not scored")
    assert set(rows[0]) >= {"id", "drift", "why", "languages", "onset_char", "off_script", "sticky"}
    assert last["summary"]["scored"] == 3
    assert main(["drift", str(tmp_path / "t.jsonl"), "--expect-language", "en,de,zh"]) == 0
    assert "0.0% of 3 scored texts drift" in capsys.readouterr().out


@pytest.mark.parametrize("codes", ["klingon", "engl", "en de", "e", "en-", ","])
def test_a_wrong_language_code_is_refused(tmp_path, capsys, codes):
    assert (
        main(["drift", write(tmp_path / "t.jsonl", [{"text": OTHER}]), "--expect-language", codes])
        == 2
    )
    assert "for example" in (error := capsys.readouterr().err) or "such as" in error


def test_what_is_not_scored_is_null(tmp_path, trained, capsys):
    assert (
        main(
            ["recall", write(tmp_path / "t.jsonl", [{"text": " "}]), "--against", trained, "--json"]
        )
        == 0
    )
    [row] = printed(capsys)["outputs"]
    assert {value for name, value in row.items() if name not in ("id", "why")} == {None}


@pytest.mark.parametrize("command", ["recall", "drift"])
def test_hostile_texts(tmp_path, trained, capsys, command):
    file = write(tmp_path / "h.jsonl", [{"text": text} for text in HOSTILE])
    extra = ["--against", trained] if command == "recall" else []
    assert main([command, file, *extra, "--json"]) == 0
    rows = printed(capsys)["outputs" if command == "recall" else "texts"]
    assert len(rows) == len(HOSTILE)
    assert rows[0]["near" if command == "recall" else "drift"] is None and rows[0]["why"]
    assert main([command, file, *extra]) == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('{"id": "a"}\n', "out.jsonl:1: expected a text or messages"),
        ('{"text": "a"}\n{"text": 3}\n', "out.jsonl:2"),
        ("[1]\n", "expected one JSON object, not a list"),
        ("", "the file is empty"),
    ],
)
def test_bad_lines_are_named(tmp_path, trained, capsys, rows, message):
    (tmp_path / "out.jsonl").write_text(rows)
    assert main(["recall", str(tmp_path / "out.jsonl"), "--against", trained]) == 2
    assert message in capsys.readouterr().err
    assert main(["drift", str(tmp_path / "out.jsonl")]) == 2


def test_listed_and_new_phrases(tmp_path, capsys):
    outputs = write(
        tmp_path / "out.jsonl",
        [{"text": f"Dear traveller, number {n} it is. I hope this helps!"} for n in range(30)],
    )
    base = write(
        tmp_path / "base.jsonl",
        [{"text": f"The answer is number {n}, as it is."} for n in range(30)],
    )
    assert main(["phrases", outputs, "--against", base, "--json"]) == 0
    found = printed(capsys)
    first = found["listed"][0]
    assert first["is"] == "kind" and first == first | {"hits": 30, "base_hits": 0, "new": True}
    assert "dear traveller number" in [phrase["text"] for phrase in found["new"]]
    assert main(["phrases", outputs, "--against", base]) == 0
    assert "dear traveller" in capsys.readouterr().out
    assert main(["phrases", write(tmp_path / "e.jsonl", [{"text": " "}]), "--against", base]) == 2


def test_canaries_are_written_once(tmp_path, capsys):
    assert (
        main(
            [
                "data",
                "canaries",
                str(tmp_path / "c"),
                "--n",
                "4",
                "--null",
                "7",
                "--copies",
                "1",
                "3",
            ]
        )
        == 0
    )
    assert "--controls" in capsys.readouterr().out
    rows = [
        json.loads(line) for line in (tmp_path / "c" / "canaries.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 8 and len({row["messages"][1]["content"] for row in rows}) == 4
    assert len((tmp_path / "c" / "canaries-null.jsonl").read_text().splitlines()) == 7
    assert main(["data", "canaries", str(tmp_path / "c")]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["data", "canaries", str(tmp_path / "d"), "--n", "0"]) == 2
