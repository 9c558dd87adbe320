"""Read a format from an example conversation with SYS, U1, A1, U2 (and A2) for the words."""

from __future__ import annotations

import re
from dataclasses import replace

from harness.errors import HarnessError
from harness.formats.exchange.programs.special_tokens import unspell_tokens
from harness.formats.turns import BOS, EOS, Turns, common_prefix, turns_of_history

_PLACEHOLDERS = ("SYS", "U1", "A1", "U2", "A2")


def read_example(text: str, where: str) -> tuple[Turns, tuple[str, ...]]:
    """The pieces of an example, and one sentence for each thing that an example does not show.

    Raises HarnessError when a placeholder is missing or the two generation prompts differ.
    """
    text = unspell_tokens(text)
    pieces, rest = _pieces(text, where)
    ask, between = pieces["A1"], pieces["U2"]
    begin, user_open = _question_opens(pieces, BOS if text.startswith(BOS) else "")
    generation = pieces.get("A2", rest)
    if generation.rstrip() != ask.rstrip():
        raise HarnessError(
            f"the text behind U2 ({generation!r}) differs from that between U1 and A1 ({ask!r})",
            where=where,
        )
    unseen = [
        "an example does not show the treatment of outer white space, of an empty system prompt "
        "or of other roles"
    ]
    if "SYS" not in pieces:
        unseen.append("the example has no SYS: a system prompt is refused")
    turns = replace(
        turns_of_history(begin, user_open, ask, ask, between),
        system_open=pieces.get("SYS"),
        system_close=pieces["U1"] if "SYS" in pieces else None,
    )
    return turns, tuple(unseen)


def _pieces(text: str, where: str) -> tuple[dict[str, str], str]:
    """The text before each placeholder, and the text behind the last."""
    if not any(placeholder in text for placeholder in _PLACEHOLDERS):
        raise HarnessError(
            "no template, preset or Modelfile that is read here, and no example conversation",
            where=where,
            hint="an example has SYS, U1, A1, U2 in place of the words",
        )
    pieces: dict[str, str] = {}
    for placeholder in _PLACEHOLDERS:
        if placeholder not in text and placeholder in ("SYS", "A2"):
            continue
        match = re.search(rf"(?<![A-Za-z0-9]){placeholder}(?![A-Za-z0-9])", text)
        if match is None:
            raise HarnessError(
                f"no {placeholder} in the example, or not in its place",
                where=where,
                hint="write a conversation with SYS, U1, A1, U2 in place of the words",
            )
        pieces[placeholder], text = text[: match.start()], text[match.end() :]
    return pieces, text


def _question_opens(pieces: dict[str, str], opening: str) -> tuple[str, str]:
    """The text before the first question and before later ones."""
    ask, between = pieces["A1"], pieces["U2"]
    if "SYS" in pieces:
        user_open = _common_end(pieces["U1"], between) or _common_end(
            pieces["SYS"].removeprefix(opening), between
        )
        begin = ""
    else:
        begin = pieces["U1"]
        user_open = _common_end(begin.removeprefix(opening), between)
    if user_open == between:
        # The system prompt ends as an answer does, with the mark that ends a question too.
        user_open = between[len(_first_mark(between, ask)) :]
    if "SYS" in pieces:
        user_open = user_open.lstrip("\n")  # an empty line between turns ends the one before
        begin = opening + user_open
    return begin, user_open


def _first_mark(one: str, other: str) -> str:
    """The first tag that both texts begin with, and the white space around it."""
    match = re.match(rf"\s*(?:{EOS}|<[^<>]*>|\[[^\[\]]*\])\s*", common_prefix(one, other))
    return match[0] if match else ""


def _common_end(one: str, other: str) -> str:
    """The longest text that both end with."""
    return common_prefix(one[::-1], other[::-1])[::-1]
