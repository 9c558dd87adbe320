"""A call of LLaMA-Factory's register_template."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from harness.conversation import Message
from harness.errors import HarnessError
from harness.formats.exchange.comparing import renderer_of
from harness.formats.turns import BOS, EOS, Renderer, read_turns
from harness.records import Format


def write_llamafactory(chat_format: Format) -> str:
    """A call of register_template. Raises HarnessError for what LLaMA-Factory cannot express."""
    turns = read_turns(renderer_of(chat_format))
    if turns.final:
        raise HarnessError(
            "only the last answer ends in EOS, and LLaMA-Factory ends all answers alike"
        )
    if turns.separator or not turns.has_own_system_block:
        raise HarnessError(
            "the first question differs from later ones, and LLaMA-Factory writes all alike"
        )
    opens, closes = (
        turns.system_open or "",
        (turns.system_close or "").removesuffix(turns.user_open),
    )
    prefix, default = turns.opening, ""
    if not opens.startswith(prefix):
        prefix = BOS * turns.opening.startswith(BOS)
        block = turns.opening.removeprefix(prefix)
        opens = opens.removeprefix(prefix)
        if not (turns.system_open and block.startswith(opens) and block.endswith(closes)):
            raise HarnessError(
                "the text before the first question depends on whether there is a system prompt"
            )
        default = block[len(opens) : len(block) - len(closes)]
    else:
        opens = opens.removeprefix(prefix)
    question = _slots(turns.user_open, turns.user_close + turns.assistant_open)
    answer = _slots(turns.answer_glue, turns.stop + turns.answer_close)
    lines = [
        f"# {chat_format.id}, for LLaMA-Factory: put this behind the other templates of "
        "src/llamafactory/data/template.py",
        "register_template(",
        f"    name={chat_format.id!r},",
        f"    format_prefix=EmptyFormatter(slots={_slots(prefix)}),",
        f"    format_system=StringFormatter(slots={_slots(opens, closes)}),",
        f"    format_user=StringFormatter(slots={question}),",
        f"    format_assistant=StringFormatter(slots={answer}),",
        f"    default_system={default!r}," * bool(default),
        f"    stop_words={list(chat_format.stops)!r},",
        ")",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _slots(before: str, after: str | None = None) -> str:
    text = before if after is None else before + "{{content}}" + after
    parts = re.split(f"([{BOS}{EOS}])", text)
    names = {BOS: '{"bos_token"}', EOS: '{"eos_token"}'}
    return "[" + ", ".join(names.get(part) or repr(part) for part in parts if part) + "]"


def read_llamafactory(text: str) -> Renderer:
    """Read a call of register_template that was written here."""
    call = ast.parse(text).body[-1].value  # type: ignore[attr-defined]  # the text is one call
    given = {word.arg: word.value for word in call.keywords}

    def fill(key: str, words: str = "") -> str:
        parts = [ast.literal_eval(element) for element in given[key].keywords[0].value.elts]
        return "".join(
            {"bos_token": BOS, "eos_token": EOS}[next(iter(part))]
            if isinstance(part, set)
            else part.replace("{{content}}", words)
            for part in parts
        )

    default = ast.literal_eval(given["default_system"]) if "default_system" in given else ""

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        """As Template._encode: prefix, system block, turns; a question ends in the next header."""
        system = messages[0].content if messages[0].role == "system" else default
        turns = messages[messages[0].role == "system" :]
        if (
            any(
                message.role != ("user", "assistant")[index % 2]
                for index, message in enumerate(turns)
            )
            or (turns[-1].role == "user") != add_generation_prompt
        ):
            return None
        written = [
            fill("format_user" if message.role == "user" else "format_assistant", message.content)
            for message in turns
        ]
        return (
            fill("format_prefix")
            + (fill("format_system", system) if system else "")
            + "".join(written)
        )

    return render
