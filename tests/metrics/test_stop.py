import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.formats import FormatSet, load_formats
from harness.formats.grammar.sample import sample
from harness.metrics.control_strings import EOS_STRINGS, ControlIndex, control_strings
from harness.metrics.stop import leaks, stop_scores
from harness.records import Finish

FORMATS: FormatSet = load_formats()
INDEX: ControlIndex = control_strings(FORMATS.values())


def texts(answer: str, own: str = "chatml", prompt: str = "") -> list[tuple[str, bool]]:
    return [(leak.text, leak.own_header) for leak in leaks(answer, INDEX, FORMATS[own], prompt)]


def scores(
    answer: str,
    own: str = "chatml",
    finish: Finish = "stop",
    prompt: str = "",
    stops: tuple[str, ...] = (),
) -> dict[str, float | None]:
    return stop_scores(answer, finish, FORMATS[own], INDEX, prompt, stops)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Oslo</s>", ["</s>"]),
        ("Oslo [INST] next", ["[INST]"]),
        ("Oslo<end_of_turn>", ["<end_of_turn>"]),
        ("Oslo\nUser: and Rome?", ["User:"]),
        ("Oslo\n  USER: and Rome?", ["USER:"]),
        ("Oslo\n### Instruction:\nGo", ["### Instruction:"]),
        ("Oslo\n**User:** and", ["**User:**"]),
        ("Oslo\n## User\nand", ["## User"]),
        ("<|start_header_id|>user<|end_header_id|>", ["<|start_header_id|>user<|end_header_id|>"]),
        ("a <|end_header_id|> b", ["<|end_header_id|>"]),
        ("GPT4 Correct User: x", ["GPT4 Correct User:"]),
        ("Oslo\n<user>\nmore", ["<user>"]),
    ],
)
def test_a_control_string_of_another_format_leaks(answer: str, found: list[str]) -> None:
    assert texts(
        answer, "plain-qa" if "User" not in answer and "user" not in answer else "phi3"
    ) == [(text, False) for text in found]


@pytest.mark.parametrize(
    "answer",
    [
        "### Example\nText\n## Users\n## User guide",
        "The user asked the assistant: what now?",
        "Ask User: he knows.",
        "Q: What is it?\nA: A test.",
        "```yaml\nUser: bob\nSystem: x\n```",
        "git clone git@<user>:x",
        "A list [1] and <b>bold</b> | table |",
        "system",
    ],
)
def test_ordinary_writing_is_no_leak(answer: str) -> None:
    assert texts(answer) == []


def test_an_own_header_is_a_run_on_and_no_leak() -> None:
    assert texts("Oslo\nUser: next", "plain-user") == [("User:", True)]
    assert texts("Oslo<|im_end|>\n<|im_start|>user") == [
        ("<|im_end|>", False),
        ("<|im_start|>user", True),
    ]
    assert texts("Oslo\nQ: next", "plain-qa") == [("Q:", True)]


def test_what_the_prompt_holds_may_be_quoted() -> None:
    assert texts("It ends with </s>.", prompt="What does </s> mean?") == []
    assert texts("It ends with </s>.", prompt="What?") == [("</s>", False)]


def test_a_leak_says_where_and_whose() -> None:
    (leak,) = leaks("ab <|im_end|> c", INDEX, FORMATS["llama3"])
    assert (leak.start, leak.end, leak.text) == (3, 13, "<|im_end|>")
    assert "chatml" in leak.formats


def test_eos_strings_count_without_any_format() -> None:
    index = control_strings([])
    assert all(leaks(f"x{eos}y", index, FORMATS["chatml"]) for eos in EOS_STRINGS)


def test_an_open_fence_hides_nothing() -> None:
    assert texts("```\ncode\nUser: next") == [("User:", False)]


def test_scores_of_a_good_answer() -> None:
    assert scores("Oslo.", prompt="What is the capital of Norway, and since when, please?") == {
        "stopped": 1.0, "empty": 0.0, "leak": 0.0, "role_run_on": 0.0, "echo": 0.0,
    }  # fmt: skip


def test_scores_of_bad_answers() -> None:
    assert scores("Oslo", finish="length")["stopped"] == 0.0
    assert scores(" \n")["empty"] == 1.0
    assert scores("Oslo\nUser: and?", "plain-user")["role_run_on"] == 1.0
    assert scores("Oslo\nUser: and?", "plain-user")["leak"] == 0.0
    assert scores("Oslo</s>more")["leak"] == 1.0
    assert set(scores("x", finish="error").values()) == {None}


@pytest.mark.parametrize(
    ("answer", "own"),
    [
        ("Oslo\nUser:", "plain-user"),
        ("Oslo<|im_end|>", "chatml"),
        ("Oslo\n### Instruction:", "alpaca-newline"),
    ],
)
def test_a_stop_left_at_the_end_is_neither_leak_nor_run_on(answer: str, own: str) -> None:
    ended = scores(answer, own, "stop")
    assert (ended["leak"], ended["role_run_on"]) == (0.0, 0.0)
    going_on = scores(answer, own, "length")
    assert (going_on["leak"], going_on["role_run_on"]) != (0.0, 0.0)


def test_a_rendered_stop_with_a_name_is_a_run_on() -> None:
    assert (
        scores("Hello.\nMaria: And you?", "roleplay-names", stops=("\nMaria:",))["role_run_on"]
        == 1.0
    )
    assert scores("Hello, Maria: you?", "roleplay-names", stops=("\nMaria:",))["role_run_on"] == 0.0


def test_echo_needs_eight_words_at_the_start() -> None:
    prompt = "Please tell me in one short sentence what the capital of Norway is."
    assert scores("please tell me, in one short sentence what", prompt=prompt)["echo"] == 1.0
    assert (
        scores("In one short sentence what the capital of Norway is", prompt=prompt)["echo"] == 1.0
    )
    assert scores("Oslo. please tell me in one short sentence what", prompt=prompt)["echo"] == 0.0
    assert scores("please tell me in one short", prompt=prompt)["echo"] == 0.0
    assert scores("What now?", prompt="What now?")["echo"] is None


@given(st.text(), st.sampled_from(sorted(FORMATS)))
def test_a_leak_is_the_text_it_names(answer: str, own: str) -> None:
    for leak in leaks(answer + "\nUser: </s>", INDEX, FORMATS[own]):
        assert (answer + "\nUser: </s>")[leak.start : leak.end] == leak.text


def test_hostile_answers(hostile: str) -> None:
    assert scores(hostile, prompt=hostile)["stopped"] == 1.0
    assert scores(hostile, "plain-user")["empty"] == float(not hostile.strip())


def test_going_on_with_a_drawn_header_is_a_run_on() -> None:
    """A format of tags with an end mark has no header among its stops."""
    for format in sample(60, 3, style="tags"):
        index = control_strings([*FORMATS.values(), format])
        user = format.roles["user"]
        found = stop_scores(f"Oslo\n{user} more", "length", format, index, "")
        assert found["role_run_on"] == 1.0, (format.id, user)
