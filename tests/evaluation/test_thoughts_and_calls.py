"""Thoughts and calls through an evaluation: who is asked, with how much room, and what is scored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.evaluation.analysis.build_report import build_report
from harness.evaluation.analysis.format_verdicts import verdicts
from harness.evaluation.analysis.sample_answers import samples
from harness.evaluation.analysis.terminal_lines import print_table
from harness.evaluation.cases.case_files import load_cases, parse_case
from harness.evaluation.checked_job import cases_of_abilities
from harness.evaluation.requests import RequestBuilder
from harness.evaluation.run import evaluate
from harness.evaluation.settings import THOUGHT_TOKENS, EvalSettings
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from harness.formats.format_set import with_thinking
from harness.formats.render import render
from harness.report.write import render_markdown
from tests.scripted_backend import ScriptedBackend

KNOWN = load_formats()
GROUPS = {"qwen3": "native", "chatml": "held-out", "hermes": "held-out"}
TOOLS = load_cases(["tools"])
THOUGHTS = load_cases(["thoughts"])
OSLO = "The user wants the weather of a city, so the tool for the weather is the right one."

HELLO = "Hello to you, it is good to see you here today."


def ask(case_id, text="Say hello.", **rest):
    row = {"id": case_id, "messages": [{"role": "user", "content": text}], **rest}
    return parse_case(row, f"cases:{case_id}")


WEATHER = {"tools": [{"name": "weather"}], "checks": [{"calls": [{"name": "weather"}]}]}
CASES = [
    ask("plain", checks=[{"says": "hello"}]),
    ask("on", checks=[{"says": "hello"}], thinking=True),
    ask("off", checks=[{"says": "hello"}], thinking=False),
    ask("tool", "How is the weather?", **WEATHER),
]


def right(prompt):
    """Thinks unless the prompt has closed the thought, and calls where there is a tool."""
    thought = "" if prompt.text.rstrip().endswith("</think>") else f"<think>\n{OSLO}\n</think>\n\n"
    if "<tools>" in prompt.text:
        return f'{thought}<tool_call>\n{{"name": "weather", "arguments": {{}}}}\n</tool_call><|im_end|>'
    return f"{thought}{HELLO}<|im_end|>"


def go(tmp_path, reply, formats=("qwen3", "chatml"), cases=CASES, native="qwen3", **settings):
    chosen = KNOWN.select(formats)
    groups = {one.id: "native" if one.id == native else "held-out" for one in chosen}
    with Store(tmp_path / "r.sqlite") as store:
        return evaluate(
            ScriptedBackend(reply, name=reply.__name__),
            cases,
            chosen,
            groups,
            native,
            store,
            EvalSettings(**settings),
            quiet=True,
        )


def values(found, format_id):
    return {
        (score.case, score.metric): score.value
        for score in found.scores
        if score.format == format_id
    }


def test_a_model_that_thinks_and_calls_is_scored_by_its_visible_words(tmp_path):
    found = values(go(tmp_path, right), "qwen3")
    assert found["plain", "on_task"] == found["plain", "thinks"] == 1
    assert found["plain", "leak"] == found["plain", "thought_leak"] == 0
    assert found["plain", "empty"] == found["plain", "drift"] == 0
    assert found["on", "thinks"] == 1 and found["on", "thought_drift"] == 0
    assert found["off", "thinks_when_off"] == 0 and ("off", "thinks") not in found
    assert found["tool", "call_valid"] == found["tool", "call_exact"] == 1
    assert ("tool", "on_task") not in found and ("plain", "call_valid") not in found


def test_a_format_without_thoughts_and_tools_is_not_asked_and_says_why(tmp_path):
    done = go(tmp_path, right)
    found = values(done, "chatml")
    assert {case for case, name, _ in done.results.answers if name == "chatml"} == {"plain"}
    why = {item.case: item.why for item in done.untestable if item.format == "chatml"}
    assert "no place for a thought" in why["on"] and "no place for a thought" in why["off"]
    assert "no place for tools" in why["tool"]
    assert found["tool", "call_exact"] is None and ("plain", "thinks") not in found
    assert found["plain", "thought_leak"] == 1  # the thought is seen there
    reasons = {s.why for s in done.scores if s.format == "chatml" and s.metric == "call_exact"}
    assert all("no place for tools" in reason for reason in reasons)


def lost_thinking(prompt):
    return right(prompt).rpartition("</think>\n\n")[2]


def broken_calls(prompt):
    return right(prompt).replace('"arguments"', '"arguments')


def always_thinks(prompt):
    return f"<think>\n{OSLO}\n</think>\n\n{HELLO}<|im_end|>"


def chinese(prompt):
    return right(prompt).replace(OSLO, "用户问挪威的首都是哪里，答案是奥斯陆，我就这样回答。")


@pytest.mark.parametrize(
    ("reply", "changed"),
    [
        (lost_thinking, {("plain", "thinks"): 0, ("on", "thinks"): 0}),
        (broken_calls, {("tool", "call_valid"): 0, ("tool", "call_exact"): 0}),
        (
            always_thinks,
            {
                ("off", "thinks_when_off"): 1,
                ("off", "thought_leak"): 1,
                ("tool", "call_valid"): 0,
                ("tool", "call_exact"): 0,
            },
        ),
        (chinese, {("plain", "thought_drift"): 1, ("on", "thought_drift"): 1}),
    ],
)
def test_each_planted_fault_moves_its_own_metrics_alone(tmp_path, reply, changed):
    good, bad = (values(go(tmp_path, each), "qwen3") for each in (right, reply))
    ignored = ("thought_drift",) if reply is lost_thinking else ()
    moved = {
        place: value
        for place, value in bad.items()
        if good.get(place) != value and place[1] not in ignored
    }
    assert moved == changed


def test_a_thought_has_room_of_its_own_where_the_model_is_known_to_think(tmp_path):
    tokens = {
        (item.case, item.format): item.request.max_new_tokens
        for item in go(tmp_path, right).requests
    }
    assert tokens["plain", "qwen3"] == tokens["on", "qwen3"] == 256 + THOUGHT_TOKENS
    assert tokens["off", "qwen3"] == tokens["plain", "chatml"] == 256
    other = go(tmp_path, right, native="chatml")
    assert {item.request.max_new_tokens for item in other.requests} == {256}
    named = go(tmp_path, right, native="chatml", thought_tokens=64, max_new_tokens=32)
    assert {item.request.max_new_tokens for item in named.requests} == {32, 96}
    assert "thought_tokens" not in other.settings.as_dict()
    assert [named.settings.most_tokens(KNOWN[one]) for one in ("qwen3", "chatml")] == [96, 32]
    assert named.settings.as_dict()["thought_tokens"] == 64


def test_only_a_model_that_is_known_for_them_is_asked_the_shipped_cases():
    def chosen(native):
        formats = KNOWN.select(["qwen3", "chatml"])
        groups = {one.id: "native" if one.id == native else "held-out" for one in formats}
        return cases_of_abilities(formats, groups)

    assert chosen("chatml") == chosen(None) == []
    assert {case.id for case in chosen("qwen3")} == {case.id for case in (*TOOLS, *THOUGHTS)}


def test_thinking_is_switched_under_the_formats_own_id():
    qwen = KNOWN["qwen3"]
    off = with_thinking(qwen, on=False)
    assert off.id == "qwen3" and not off.thinks and off.digest != qwen.digest
    assert with_thinking(off, on=True).thinks and with_thinking(qwen, on=True) == qwen
    with pytest.raises(HarnessError, match="no place for a thought"):
        with_thinking(KNOWN["chatml"], on=False)
    with pytest.raises(HarnessError, match="no switch for its thoughts"):
        with_thinking(KNOWN["deepseek-r1"], on=False)


@pytest.mark.parametrize(
    "format_id", [one.id for one in KNOWN.values() if one.reasoning != "none" and one.thoughts_off]
)
def test_every_format_with_a_switch_renders_both_ways(format_id):
    conversation = Conversation("c", (Message("user", "Hello"),))
    on, off = (
        render(conversation, with_thinking(KNOWN[format_id], on=on), add_generation_prompt=True)
        for on in (True, False)
    )
    assert on.text != off.text


@pytest.mark.parametrize("format_id", [one.id for one in KNOWN.values() if one.calls])
def test_every_format_with_tools_can_be_asked_the_shipped_cases(format_id):
    builder = RequestBuilder(ScriptedBackend(lambda prompt: ""), 8)
    builder.build(TOOLS, [KNOWN[format_id]])
    refused = {item.case: item.why for item in builder.untestable}
    assert not {case: why for case, why in refused.items() if "parallel" not in case}, refused


def test_a_prompt_that_opens_the_thought_is_read_with_it(tmp_path):
    """The owner writes ``<think>`` in the prompt, and the answer begins inside the thought."""

    def opened(prompt):
        assert prompt.text.endswith("<think>\n")
        return f"{OSLO}\n</think>\n\n{HELLO}"

    def cut(prompt):
        return OSLO

    found = values(go(tmp_path, opened, ("deepseek-r1",), CASES[:1], "deepseek-r1"), "deepseek-r1")
    assert found["plain", "thinks"] == found["plain", "on_task"] == 1
    assert found["plain", "thought_leak"] == 0
    found = values(go(tmp_path, cut, ("deepseek-r1",), CASES[:1], "deepseek-r1"), "deepseek-r1")
    assert found["plain", "thinks"] == 1 and found["plain", "empty"] == 1
    assert found["plain", "stopped"] == 0


def test_a_continuation_in_a_format_that_thinks_begins_behind_an_empty_thought():
    case = ask("r", reference="Hello, how are you today?")
    builder = RequestBuilder(ScriptedBackend(lambda prompt: ""), 8)
    for name in ("qwen3", "deepseek-r1"):
        for item in builder.build_continuations([case], [KNOWN[name]], (0.0, 0.5), 8):
            text = item.request.prompt.text + item.request.prefix
            lead = text.rpartition("</think>")[2].strip()
            assert "</think>" in text and lead in ("", "Hello, how"), text
    plain = builder.build_continuations([case], [KNOWN["chatml"]], (0.0, 0.5), 8)
    assert [item.request.prefix for item in plain] == ["", "Hello, how"]


def test_a_reference_that_a_format_reads_a_thought_in_is_not_continued():
    case = ask("r", reference="End it with </think> and go on.")
    builder = RequestBuilder(ScriptedBackend(lambda prompt: ""), 8)
    formats = [KNOWN["qwen3"], KNOWN["chatml"]]
    planned = builder.build_continuations([case], formats, (0.0, 0.5), 8)
    assert [item.format for item in planned] == ["chatml", "chatml"]
    [untestable] = builder.untestable
    assert untestable.why == "format qwen3 reads a thought in the reference"


def test_the_report_marks_a_thought_and_looks_for_faults_in_the_words(tmp_path):
    def leaky(prompt):
        return right(prompt).replace(HELLO, f"{HELLO} <|eot_id|>")

    shown = {(sample.case, sample.format): sample for sample in samples(go(tmp_path, leaky))}
    sample = shown["plain", "qwen3"]
    marked = {mark.kind: sample.answer[mark.start : mark.end] for mark in sample.marks}
    assert OSLO in marked["thought"] and marked["leak"] == "<|eot_id|>"
    tool = shown["tool", "qwen3"]
    [mark] = [mark for mark in tool.marks if mark.kind == "thought"]
    assert tool.answer[mark.start : mark.end] == tool.answer and "<tool_call>" in tool.answer


def test_columns_of_what_some_models_can_do_are_shown_for_those(tmp_path, capsys):
    def shown(formats, native):
        print_table([go(tmp_path, right, formats, native=native)])
        return capsys.readouterr().out.splitlines()[0].split()

    assert {"thinks", "call_exact"} <= set(shown(("qwen3", "chatml"), "qwen3"))
    assert not {"thinks", "call_exact"} & set(shown(("chatml",), "chatml"))
    report = build_report([go(tmp_path, right)], model="m")
    assert "| thinks |" in render_markdown(report) and "call_exact" in render_markdown(report)
    plain = build_report([go(tmp_path, right, ("chatml",), native="chatml")], model="m")
    assert "thinks" not in render_markdown(plain).split("|---|")[0]


def test_the_verdict_names_what_the_reference_does_better(tmp_path):
    """The same model, in its own format and in one where it neither thinks nor calls."""
    own = KNOWN["qwen3"]
    template = own.template.replace("<|im_start|>", "<|begin|>")
    other = replace(own, id="other", template=template, digest="other")

    def forgets(prompt):
        return right(prompt) if "<|im_start|>" in prompt.text else "I cannot.<|im_end|>"

    asked = [ask(f"{case.id}-{at}", **WEATHER) for at in range(24) for case in CASES[:1]]
    asked += [ask(f"on-{at}", checks=[{"says": "hello"}], thinking=True) for at in range(24)]
    groups = {"qwen3": "native", "other": "held-out"}
    with Store(tmp_path / "v.sqlite") as store:
        backend = ScriptedBackend(forgets)
        done = evaluate(
            backend, asked, [own, other], groups, "qwen3", store, EvalSettings(), quiet=True
        )
    word = {one.format: one for one in verdicts(done)}
    assert word["other"].word == "degraded"
    assert (
        "lost its thinking: 0% of the answers hold a thought against 100%" in word["other"].reason
    )
    assert "tool calls do not parse: 0% are valid against 100%" in word["other"].reason
    assert word["qwen3"].word != "degraded"
