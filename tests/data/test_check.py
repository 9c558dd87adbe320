"""Each kind of mistake in a training set is reported with its line, and a good set has none."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main
from harness.data.check import check_files
from harness.evaluation.cases.case_files import load_cases

GOOD = (
    "The old mill by the river grinds no flour now, but its wheel still turns when the water is "
    "high."
)


def row(question="What is by the river?", answer=GOOD, **rest):
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ],
        **rest,
    }


def kinds(tmp_path, *rows, cases=()):
    file = tmp_path / "set.jsonl"
    file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return [
        (finding.kind, finding.place.rsplit("/", 1)[-1])
        for finding in check_files([str(file)], cases)[1]
    ]


def test_a_good_row_is_silent(tmp_path):
    assert kinds(tmp_path, row()) == []


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ("{", "bad JSON"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "bad row"),
        (row(answer="  "), "empty message"),
        ({"messages": [{"role": "user", "content": "hm"}]}, "no answer"),
        ({"messages": [*row()["messages"], {"role": "user", "content": "and?"}]}, "open end"),
        (
            {"messages": [row()["messages"][0], {**row()["messages"][1], "train": False}]},
            "nothing trained",
        ),
        (row(answer="A mill that I know stands there.<|im_end|>"), "control string"),
        (row(answer="### Instruction:\nSay hi.\n\n### Response:\nHi."), "rendered chat"),
        (row(answer="As an AI language model, I cannot do that for you today."), "canned phrase"),
        (row(answer="Сегодня хорошая погода, и мы идём гулять."), "other language"),
        (row(answer="long " * 3000), "over-long"),
        (
            {"messages": [*row()["messages"], {"role": "assistant", "content": "More."}]},
            "repeated role",
        ),
    ],
)
def test_each_mistake_is_found_at_its_line(tmp_path, bad, kind):
    assert (kind, "set.jsonl:2") in kinds(tmp_path, row(), bad)


def test_duplicates_and_near_duplicates_are_distinguished(tmp_path):
    findings = kinds(
        tmp_path,
        row(),
        row(),
        row(answer=GOOD.replace("flour", "wheat")),
        row("Something else?", "Quite another matter, with nothing in common."),
    )
    assert ("duplicate", "set.jsonl:2") in findings and (
        "near-duplicate",
        "set.jsonl:3",
    ) in findings
    assert not any(place == "set.jsonl:4" for _, place in findings)


def test_a_repeated_id_is_found(tmp_path):
    assert ("duplicate id", "set.jsonl:2") in kinds(
        tmp_path, row(id="a"), row("Other?", "Nothing of the kind, and never was.", id="a")
    )


def test_questions_and_references_of_the_evaluation_are_found(tmp_path):
    cases = load_cases()
    reference = max(
        (case for case in cases if case.reference), key=lambda case: len(case.reference)
    )
    findings = kinds(
        tmp_path,
        row(question=cases[0].messages[-1].content.upper()),
        row("Tell me.", reference.reference),
        cases=cases,
    )
    assert ("overlap", "set.jsonl:1") in findings and ("overlap", "set.jsonl:2") in findings


def test_the_shipped_set_is_clean(capsys):
    assert main(["data", "check"]) == 0
    assert "0 findings" in capsys.readouterr().out


def test_findings_are_exit_code_1(tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text("{\n")
    assert main(["data", "check", str(tmp_path / "bad.jsonl")]) == 1
    assert "bad.jsonl:1: bad JSON" in capsys.readouterr().out


def test_a_file_without_a_conversation_is_a_finding(tmp_path, capsys):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert main(["data", "check", str(empty)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{empty}: empty: holds no conversation",
        "0 conversations, 1 finding",
    ]
