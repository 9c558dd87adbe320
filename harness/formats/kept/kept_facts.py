"""Probe what a kept template does, and fill in its front matter.

Nothing is guessed: what the probes do not show is left out, and what cannot be traced is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from harness.conversation import NO_MARKS, AnswerMarks, CallMarks
from harness.errors import HarnessError
from harness.formats.kept.kept_pieces import MARK, Fault
from harness.formats.kept.kept_probes import (
    A1,
    A2,
    CALL,
    DATES,
    DEVELOPER,
    RESULT,
    SYSTEM,
    T1,
    T2,
    TOOL,
    U1,
    U2,
    Prober,
    carries,
    written,
)
from harness.formats.kept.kept_render import KeptRendering, frozen_clock
from harness.formats.turns import BOS, EOS, without_tokens
from harness.records import KeptTemplate

_THOUGHT_MARK = re.compile(r"think|thought|reason", re.IGNORECASE)


@dataclass
class Facts:
    """The values of the front matter, and findings for the user."""

    way: KeptTemplate = field(default_factory=KeptTemplate)
    system: str = "unsupported"
    reasoning: str = "none"
    tools: str = "none"
    stops: tuple[str, ...] = ()
    eos: str = "none"
    roles: dict[str, str] = field(default_factory=dict)
    thoughts: AnswerMarks = NO_MARKS
    calls: CallMarks | None = None
    switches: dict[str, list[bool]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def find_facts(prober: Prober) -> Facts:
    """Raise HarnessError, with the template's own reason, if not even a question and its answer
    can be rendered and traced.
    """
    with frozen_clock(DATES[0]):
        facts = _probed(prober)
    if "strftime_now" in prober.format.template:
        _dates(prober, facts)
    return facts


def _probed(prober: Prober) -> Facts:
    facts = Facts()
    exchange = _find_way(prober, facts)
    _find_stops(prober, facts, exchange)
    prober.format = replace(prober.format, stops=facts.stops)
    _find_system(prober, facts)
    _find_thoughts(prober, facts)
    _find_switch(prober, facts)
    _find_tools(prober, facts)
    _find_developer(prober, facts)
    return facts


def _find_way(prober: Prober, facts: Facts) -> KeptRendering:
    """Render a question and its answer in the first way that the template takes."""
    reasons: list[str] = []
    for tools in ((), (TOOL,)):
        for content in ("text", "parts"):
            prober.format = replace(prober.format, kept=KeptTemplate(content=content))
            prober.tools = tools
            exchange = prober.render(U1, A1)
            if exchange is not None and carries(exchange, (U1, A1)):
                facts.way = prober.format.kept or KeptTemplate()
                if tools:
                    facts.findings.append(
                        f"It renders only conversations with tools; without tools: {reasons[0]}."
                    )
                return exchange
            if exchange is not None:
                prober.reason = "it leaves out words of a question or an answer, or changes them"
            reasons.append(prober.reason)
    raise HarnessError(f"a question and its answer cannot be rendered: {reasons[0]}")


def _find_stops(prober: Prober, facts: Facts, exchange: KeptRendering) -> None:
    longer = prober.render(U1, A1, U2, A2)
    texts: list[str] = []
    faults: set[Fault] = set()
    for rendering in filter(None, (exchange, longer)):
        for answer in rendering.answers:
            texts.append(rendering.text[answer.stop : answer.end])
            faults |= set(answer.faults)
    ends = [text for text in texts if text.strip()]
    facts.stops = tuple(dict.fromkeys(filter(None, map(_stop_string, ends))))
    if ends:
        everywhere = len(ends) == len(texts)
        facts.eos = (
            ("after every answer" if everywhere else "after some answers")
            if any(EOS in text for text in ends)
            else "none; the mark ends the answer"
        )
    header = _header_behind(longer) if longer is not None else ""
    if not facts.stops and header and (not ends or "no stop between" in faults):
        facts.stops = (header,)
    _say_stops(facts, faults, header)
    _find_roles(facts, exchange, header)
    if longer is None and "alternate" not in prober.reason:
        facts.findings.append(f"Two questions with answers cannot be rendered: {prober.reason}.")
    facts.findings += list(_prompt_findings(faults))


def _stop_string(text: str) -> str:
    """What ends generation: the first mark of a stop, or its text without EOS."""
    plain = without_tokens(text)
    mark = MARK.search(plain)
    return mark[0] if mark else plain


def _header_behind(longer: KeptRendering) -> str:
    """What comes between the first answer, with its stop, and the second question."""
    if not longer.answers:
        return ""
    begin = longer.answers[0].end
    question = [s.start for s in longer.spans if s.message == 2 and s.start >= begin]
    header = longer.text[begin : min(question, default=begin)].replace(BOS, "").replace(EOS, "")
    words = header.strip()
    return f"\n{words}" if words and "\n" in header.partition(words)[0] else words


def _say_stops(facts: Facts, faults: set[Fault], header: str) -> None:
    stops = "EOS" if facts.eos.startswith("after") else ", ".join(facts.stops)
    if "no stop" in faults and facts.eos != "none":
        facts.findings.append(
            f"The last answer has no stop: the template writes {stops} only when something follows,"
            " so a model does not learn to end its last answer. The next header is never trained."
        )
    elif "no stop" in faults:
        facts.findings.append(
            "No stop is written after an answer"
            + (f": generation ends at the next header {header.strip()!r}" if header else "")
            + ". That header is never trained, so a model does not learn to stop."
        )
    elif "no stop between" in faults:
        facts.findings.append(
            f"Only the last answer ends with {stops}. An answer before a question has no stop, and "
            "the next header is never trained."
        )


def _prompt_findings(faults: set[Fault]) -> Iterator[str]:
    if "prompt differs" in faults:
        yield (
            "The generation prompt differs from the text before an answer, so a model is prompted "
            "in a form that it was not trained in."
        )
    if "header not in the prompt" in faults:
        yield (
            "The generation prompt leaves out the header of an answer. The header is not trained "
            "either, so a model never writes it."
        )
    if "earlier turns change" in faults:
        yield (
            "Earlier turns change when the conversation continues: the text sent for one turn is "
            "not a prefix of the text sent for the next."
        )


def _find_roles(facts: Facts, exchange: KeptRendering, header: str) -> None:
    first = min((s.start for s in exchange.spans if s.message == 0), default=0)
    user = header.strip() or without_tokens(exchange.text[:first])
    between = [s for s in exchange.spans if s.kind == "header" and s.start > first]
    assistant = exchange.text[between[0].start : between[0].end] if between else ""
    for stop in facts.stops:
        assistant = assistant.strip().removeprefix(stop)
    for role, text in (("user", user), ("assistant", without_tokens(assistant))):
        if text and len(text) < _LONGEST_HEADER:
            facts.roles[role] = text


_LONGEST_HEADER = 200
#: Names of the variable that switches thoughts on and off.
_SWITCHES = ("enable_thinking", "thinking")


def _find_system(prober: Prober, facts: Facts) -> None:
    """Where a system prompt goes, in a conversation that ends with a question and in one that ends
    with an answer.
    """
    asked, answered = (SYSTEM, U1, A1, U2), (SYSTEM, U1, A1, U2, A2)
    asking = prober.render(*asked, prompt=True) or prober.render(*asked[:2], prompt=True)
    ended = prober.render(*answered) or prober.render(*answered[:3])
    shown = None if asking is None else written(asking, 0).strip()
    if asking is None:
        return
    if not shown:
        facts.findings.append(
            "The template silently drops a system prompt, so it is put into the first question."
        )
        return
    if shown != SYSTEM.content:
        facts.findings.append(
            "The template changes or repeats a system prompt, so system prompts are refused."
        )
        return
    place = next(s for s in asking.spans if s.kind == "content" and s.message == 0)
    questions = [s for s in asking.spans if s.kind == "content" and s.message in (1, 3)]
    if len(questions) > 1 and questions[0].start < place.start:
        facts.system = "last-user"
        if ended is None or not written(ended, 0).strip():
            facts.findings.append(
                "The template puts a system prompt into the last question, but drops it from a "
                "conversation that ends with an answer. For training it is put into the last "
                "question."
            )
        return
    behind = asking.text[place.end : questions[0].start] if questions else ""
    before = without_tokens(asking.text[: place.start])
    user = facts.roles.get("user", "")
    if not user or not behind.strip().endswith(user):
        facts.system = "first-user"
        return
    facts.system = "own" if before else "prefix"
    if before and len(before) < _LONGEST_HEADER:
        facts.roles["system"] = before


def _find_developer(prober: Prober, facts: Facts) -> None:
    rendering = prober.render(DEVELOPER, U1, A1)
    system = prober.render(replace(SYSTEM, content=DEVELOPER.content), U1, A1)
    if rendering is None or not carries(rendering, (DEVELOPER, U1, A1)):
        return
    if system is None or system.text != rendering.text:
        place = next(s for s in rendering.spans if s.kind == "content" and s.message == 0)
        header = without_tokens(rendering.text[: place.start])
        if header and "developer" in header.lower():
            facts.roles["developer"] = header[-_LONGEST_HEADER:]


def _find_thoughts(prober: Prober, facts: Facts) -> None:
    """Which thoughts are written: none, that of the last answer, or all."""
    for key in ("reasoning_content", "reasoning"):
        prober.format = replace(prober.format, kept=replace(facts.way, thought=key))
        one, two = prober.render(U1, T1), prober.render(U1, T1, U2, T2)
        last = one is not None and (T1.reasoning or "") in written(one, 1, "reasoning")
        if one is None or not last or not carries(one, (U1, T1)):
            continue
        facts.way = replace(facts.way, thought=key)
        kept = [
            two is not None and (message.reasoning or "-") in written(two, index, "reasoning")
            for index, message in ((1, T1), (3, T2))
        ]
        facts.reasoning = "all-turns" if all(kept) else "last-turn" if kept[1] else "by-position"
        if not all(kept):
            facts.findings.append(
                "The template drops the thoughts of earlier turns; dropped thoughts are counted."
            )
        facts.thoughts = _thought_marks(one)
        break
    prober.format = replace(prober.format, kept=facts.way)


def _find_switch(prober: Prober, facts: Facts) -> None:
    """The variable that switches thoughts off, with its default first."""
    if facts.reasoning == "none":
        return
    plain = prober.format
    for name in _SWITCHES:
        if name not in plain.template or name in plain.variables:
            continue
        prompts = {}
        for value in (None, True, False):
            given = {} if value is None else {name: value}
            prober.format = replace(plain, variables={**plain.variables, **given})
            prompts[value] = prober.render(U1, prompt=True, plain=True)
        prober.format = plain
        if None not in prompts.values() and prompts[True] != prompts[False]:
            default = prompts[None] == prompts[True]
            facts.switches = {name: [default, not default]}
            return


def _thought_marks(one: KeptRendering) -> AnswerMarks:
    at = one.text.find(T1.reasoning or "")
    opens, closes = MARK.findall(one.text[:at]), MARK.findall(one.text[at:])
    if opens and closes and all(map(_THOUGHT_MARK.search, (opens[-1], closes[0]))):
        return AnswerMarks(opens[-1], closes[0])
    return NO_MARKS


def _find_tools(prober: Prober, facts: Facts) -> None:
    """Whether calls and results are written, with arguments as an object or as text."""
    messages, reason = (U1, CALL, RESULT, A2), ""
    for arguments in ("object", "text"):
        prober.format = replace(prober.format, kept=replace(facts.way, arguments=arguments))
        ended = prober.render(*messages, tools=True)
        asked = prober.render(*messages[:3], prompt=True, tools=True)
        if ended is None or asked is None:
            reason = reason or prober.reason
            continue
        call = written(ended, 1, "call")
        if all(word in call for word in ("look_up", "word", "tree")) and carries(
            ended, (U1, replace(CALL, content=""), RESULT, A2)
        ):
            facts.tools = "own"
            facts.way = replace(facts.way, arguments=arguments)
            facts.findings += list(_tool_findings(ended))
            facts.calls = _call_marks(call)
            break
        reason = reason or "it leaves out calls or results"
    prober.format = replace(prober.format, kept=facts.way)
    if facts.tools == "none":
        facts.refused.append(f"tools, calls and results: {reason}")


def _call_marks(text: str) -> CallMarks | None:
    """How a call is parsed if it is written as JSON; else None."""
    start = min((at for at in (text.find("{"), text.find("[{")) if at >= 0), default=-1)
    end = max(text.rfind("}"), text.rfind("}]") + 1) + 1
    try:
        value = json.loads(text[start:end])
    except ValueError:
        return None
    call = value[0] if isinstance(value, list) and value else value
    if not isinstance(call, dict) or call.get("name") != CALL.tool_calls[0].name:
        return None
    arguments = next((key for key in ("arguments", "parameters") if key in call), "")
    if call.get(arguments) != CALL.tool_calls[0].values():
        return None
    return CallMarks("json", text[:start], text[end:], arguments=arguments)


def _tool_findings(ended: KeptRendering) -> Iterator[str]:
    first = next(s.start for s in ended.spans if s.message == 1)
    if "Look a word up" not in ended.text[:first]:
        yield "The template does not write the tool definitions into the prompt."
    if any("no stop" in fault for answer in ended.answers[:1] for fault in answer.faults):
        yield "An answer that calls a tool has no stop."


def _dates(prober: Prober, facts: Facts) -> None:
    """Render a template that asks for the time on another day; headers hold no date."""
    texts = []
    for date in DATES:
        with frozen_clock(date):
            shown = [
                prober.render(*messages, plain=True)
                for messages in ((U1, A1, U2, A2), (U1, A1), (SYSTEM, U1), (DEVELOPER, U1))
            ]
        texts.append([one.text for one in shown if one is not None])
    if texts[0] == texts[1]:
        return
    facts.findings.append(
        "The text holds the date of the day on which it is rendered, so the prompt differs from "
        "day to day."
    )
    later = "".join(texts[1])
    facts.roles = {role: text for role, text in facts.roles.items() if text in later}
