"""The masking rules of TRL, axolotl and unsloth on a template, each judged by the oracle."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.formats.foreign import render_foreign
from harness.formats.tracing import FROZEN_NOW
from harness.formats.trainers.axolotl import axolotl_mask
from harness.formats.trainers.trainer_mask import (
    ChatTemplate,
    RefusedByTemplateError,
    TrainerMask,
    split_pieces,
)
from harness.formats.trainers.trl import NO_BLOCK, TrlSettings, trl_mask
from harness.formats.trainers.unsloth import unsloth_mask
from tests.corpus.engines import BOS, EOS
from tests.corpus.oracle import Region, Renderings, faults, lost, regions

#: What a rule is tried on: shapes of each group, where the template writes all of them.
GROUPS = {
    "plain turns": ("two-turns", "system-turns"),
    "thoughts": ("thought", "thought-each-turn"),
    "calls": ("call", "call-system"),
}
TRL, PAIRS = "TRL, assistant_only_loss", "TRL, prompt and completion"
AXOLOTL, UNSLOTH = "axolotl, chat_template", "unsloth, train_on_responses_only"
RULES = (TRL, PAIRS, AXOLOTL, UNSLOTH)
#: What a rule does wrong, in the oracle's words and in ours.
KINDS = {
    "more is trained": "trains a header or a question",
    "answer not trained": "misses part of an answer",
    "stop not trained": "misses a stop",
}
ENDS, OWN_COPY, RIGHT = "ends with an error", "takes its own copy of the template", "right"
OUTCOMES = (RIGHT, *KINDS.values(), ENDS, OWN_COPY)

_MARK = re.compile(r"<[^<>\s][^<>]*>|\[[^\[\]]+\]")
#: TRL 1.16 replaces a template that equals one it knows: the first digits of their SHA-256.
_KNOWN_TO_TRL = frozenset(
    [
        "0d7e56ca41705b79",
        "2147c474f41b522b",
        "273d8e0e683b8850",
        "2c17243a977fd064",
        "2f1b4d75d067bae3",
        "33204f1acb5bd000",
        "3b74d76d8b903752",
        "43a92aacc2e169bb",
        "44f815868bf02fa4",
        "5504d163d879bfb6",
        "55572b8d3c834204",
        "55b2f4a26ac9ee71",
        "563b1ce7d61d50a9",
        "56a1447ad31926fd",
        "58933db77d3099b4",
        "603a42db292c2527",
        "64f85b198065d0fb",
        "6cd0e94d9b489fdb",
        "6d65c8804847ad74",
        "781d10940fbc44be",
        "7822d3aa6f6eac57",
        "78d976a442bcde2f",
        "82753bef5cedc493",
        "830005085ddd94ce",
        "8d9e3a3c114fb205",
        "90c33aee14aa2a22",
        "93c0e9aa3629bbd7",
        "9aeb7eac68ad87bb",
        "9d879ef91075acbf",
        "a0bc6f6fc7a29a80",
        "a4aee8afcf2e0711",
        "a4c9919cbbd4acdd",
        "a55ee1b1660128b7",
        "ba03a121d097859c",
        "c3cf9e34abf4f9e3",
        "c5b67247c9f736f6",
        "cef187400d62a595",
        "d82792f95932f1c9",
        "dcaee66df77bfbb7",
        "e84f32a23fdda276",
        "ecd6ae513fe103f0",
    ]
)


def tally(template: str, written: Sequence[Renderings]) -> dict[str, list[str]]:
    """Each rule's outcomes on one template: right, or everything that it does wrong.

    The keys are a rule and a group of shapes, with a colon between.
    """
    found: dict[str, set[str]] = {}
    for seen in written:
        group = next((name for name, shapes in GROUPS.items() if seen.shape.name in shapes), "")
        if not group or not _whole(seen):
            continue
        places = regions(seen)
        if any(region.why for region in places):
            continue
        for rule, mask, answers in _masks(template, seen, places):
            found.setdefault(f"{rule}: {group}", set()).update(_judged(mask, seen, answers))
    if _known_to_trl(template):
        found |= {key: {OWN_COPY} for key in found if key.startswith(f"{TRL}:")}
    wrong = {key: sorted(kinds - {RIGHT}) for key, kinds in found.items()}
    return {key: wrong[key] or [RIGHT] for key, kinds in found.items() if kinds}


def _whole(seen: Renderings) -> bool:
    """Whether the template writes everything, and the thought of the last answer."""
    thought = seen.messages[-1].get("reasoning_content") or ""
    return seen.whole is not None and not lost(seen) and thought in seen.whole


def _known_to_trl(template: str) -> bool:
    digest = hashlib.sha256(template.strip().encode()).hexdigest()
    return digest[:16] in _KNOWN_TO_TRL


def _masks(
    template: str, seen: Renderings, places: Sequence[Region]
) -> Iterator[tuple[str, TrainerMask, Sequence[Region]]]:
    chat = _chat_template(template, seen, places)
    row: dict[str, Any] = {"messages": seen.messages, "tools": list(seen.tools)}
    pair = {"prompt": seen.messages[:-1], "completion": seen.messages[-1:], "tools": row["tools"]}
    settings = TrlSettings(assistant_only_loss=True, max_length=None)
    yield TRL, trl_mask(chat, row, settings), places
    yield PAIRS, trl_mask(chat, pair, TrlSettings(max_length=None)), places[-1:]
    yield AXOLOTL, axolotl_mask(chat, row), places
    yield UNSLOTH, unsloth_mask(chat, row), places


def _judged(mask: TrainerMask, seen: Renderings, answers: Sequence[Region]) -> set[str]:
    if mask.error:
        return {ENDS} if mask.error == NO_BLOCK or not mask.text else set(KINDS.values())
    if mask.text != seen.whole:
        return set()
    trained = [False] * len(mask.text)
    for start, end in mask.trained:
        trained[start:end] = [True] * (end - start)
    wrong = {
        KINDS[fault.kind]
        for fault in faults(mask.text, trained, answers)
        if fault.kind != "more is trained" or len("".join(fault.text.split())) > 1
    }
    return wrong or {RIGHT}


def _chat_template(template: str, seen: Renderings, places: Sequence[Region]) -> ChatTemplate:
    """With the template's own stop for the tokenizer's EOS, which is the best case for each rule."""
    text = seen.whole or ""
    ends = _MARK.findall(text[places[-1].words : places[-1].stop])
    eos = ends[0] if ends else EOS
    marks = frozenset({BOS, eos, *_MARK.findall(text)})

    def write(messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        given = {"add_generation_prompt": False, "bos_token": BOS, "eos_token": EOS, **variables}
        given["tools"] = given.get("tools") or None
        try:
            return render_foreign(template, list(messages), now=FROZEN_NOW, **given)
        except Exception as error:  # a template raises anything
            raise RefusedByTemplateError(str(error)) from None

    return ChatTemplate(template, write, split_pieces(marks), BOS, eos, marks)
