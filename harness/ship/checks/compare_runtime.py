"""Send what was trained through a runtime, and compare texts and ids."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from harness.formats.tracing import FROZEN_NOW
from harness.ship.checks.id_kinds import bos_kind, id_kinds, id_window
from harness.ship.checks.remedies import remedy
from harness.ship.checks.text_kinds import text_kind, window, without_bos
from harness.ship.checks.trained_texts import TrainedPrompt, TrainedTexts, with_other_switch
from harness.ship.findings import Checked, Finding

TEXTS, IDS = "texts", "ids"
_DATE_FORMS = ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y")


@dataclass(frozen=True, slots=True)
class Sent:
    """What a runtime sends to the model for one prompt.

    ``refused`` is the runtime's reason for sending nothing, ``unsupported`` what it cannot send,
    such as tools; without either, ``text`` is sent. ``ids`` is None if they are not known.
    ``adds_bos``: whether the tokenizer puts a BOS before ``text``; None if that is not known.
    """

    text: str = ""
    ids: tuple[int, ...] | None = None
    adds_bos: bool | None = None
    refused: str = ""
    unsupported: str = ""

    @classmethod
    def refusal(cls, reason: object) -> Sent:
        """Nothing, because the runtime refuses the messages."""
        return cls(refused=str(reason) or "it gives no reason")


class Sender(Protocol):
    """Something that runs a shipped model."""

    @property
    def name(self) -> str:
        """Its name in the results: hf, llamacpp, ollama, vllm, …"""

    @property
    def how(self) -> str:
        """How the texts are made, in a few words for the reason."""

    @property
    def frozen(self) -> bool:
        """Whether its clock shows the date that was trained."""

    @property
    def no_ids(self) -> str:
        """Why there are no ids; "" where there are."""

    @property
    def trained(self) -> TrainedTexts:
        """What it is compared with."""

    def send(self) -> Iterable[Sent]:
        """What is sent for each trained prompt, in their order.

        Raises HarnessError for a runtime that cannot be asked at all.
        """


@dataclass
class Found:
    """The first of each kind of difference, and how many there are."""

    first: dict[str, tuple[str, str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, where: str, shown: str) -> None:
        self.first.setdefault(kind, (where, shown))
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def findings(self, check: str, runtime: str, prompts: int) -> list[Finding]:
        if "truncated" in self.first:  # a system prompt that is cut off is the same fault
            self.counts["truncated"] += self.counts.get("dropped-system", 0)
            self.first.pop("dropped-system", None)
        return [
            Finding(
                check,
                kind,
                where,
                f"{shown} (in {self.counts[kind]} of {prompts} prompts)",
                remedy(kind, runtime),
            )
            for kind, (where, shown) in self.first.items()
        ]


def compare_runtime(runtime: Sender) -> list[Checked]:
    """The checks "texts" and "ids" of a runtime."""
    texts, ids, trained = Found(), Found(), runtime.trained
    unsupported: dict[str, int] = {}
    compared = known_ids = 0
    bos_unknown = False
    for prompt, sent in zip(trained.prompts, runtime.send(), strict=True):
        if sent.unsupported and not prompt.own:
            unsupported[sent.unsupported] = unsupported.get(sent.unsupported, 0) + 1
            continue
        compared += 1
        if sent.unsupported:
            texts.add("missing-tools", prompt.where, f"the runtime sends no {sent.unsupported}")
            continue
        if sent.refused:
            texts.add("refused", prompt.where, f"the template refuses the messages: {sent.refused}")
            continue
        kind = _compare_text(runtime, prompt, sent, texts)
        bos_unknown |= sent.ids is None and sent.adds_bos is None and bool(trained.bos)
        if sent.ids is not None and not kind and not (trained.dated and not runtime.frozen):
            known_ids += 1
            for of_ids in id_kinds(trained, prompt, sent.ids):
                shown = id_window(trained, prompt.ids, sent.ids)
                ids.add(of_ids, prompt.where, shown)
    reason = "; ".join(
        [
            f"{trained.scope}, {runtime.how}",
            *(
                f"left out: {count} with {what}, which it cannot send"
                for what, count in unsupported.items()
            ),
            *(["it is not known whether a BOS comes first"] if bos_unknown else []),
        ]
    )
    if not compared:
        nothing = f"no prompt could be sent: {reason}"
        return [Checked.not_checked(check, runtime.name, nothing) for check in (TEXTS, IDS)]
    return [
        Checked.of(TEXTS, runtime.name, texts.findings(TEXTS, runtime.name, compared), reason),
        _ids_checked(runtime, ids, known_ids, compared),
    ]


def _ids_checked(runtime: Sender, ids: Found, known: int, compared: int) -> Checked:
    if known:
        scope = f"{known} of {compared} prompts, those whose texts are equal"
        return Checked.of(IDS, runtime.name, ids.findings(IDS, runtime.name, known), scope)
    if runtime.trained.dated and not runtime.frozen and not runtime.no_ids:
        return Checked.not_checked(IDS, runtime.name, "the template writes the date")
    return Checked.not_checked(
        IDS, runtime.name, runtime.no_ids or "no text is equal, or its ids are not known"
    )


def _compare_text(runtime: Sender, prompt: TrainedPrompt, sent: Sent, found: Found) -> str:
    """Add the differences of the texts; returns the kind of what differs behind BOS."""
    text, trained = sent.text, runtime.trained
    if trained.dated and not runtime.frozen:
        text = with_trained_date(text)
    kind = text_kind(prompt, text, bos=trained.bos, stops=trained.stops)
    switch = _switch(trained, prompt, text) if kind else ""
    if switch:
        kind = "other-switch"
        found.add(kind, prompt.where, f"sent as with {switch}")
    elif kind:
        mine, theirs = (without_bos(one, trained.bos)[0] for one in (prompt.rendered.text, text))
        found.add(kind, prompt.where, window(mine, theirs))
    _compare_bos(trained, prompt, text, sent.adds_bos, found)
    return kind


def _switch(trained: TrainedTexts, prompt: TrainedPrompt, sent: str) -> str:
    """The switch of the template that explains the text, such as ``enable_thinking=true``."""
    wanted = without_bos(sent, trained.bos)[0]
    others = with_other_switch(trained, prompt)
    return next((one for one, text in others if without_bos(text, trained.bos)[0] == wanted), "")


def _compare_bos(
    trained: TrainedTexts, prompt: TrainedPrompt, text: str, adds_bos: bool | None, found: Found
) -> None:
    """Count BOS in the text, and the one that the tokenizer adds.

    Where it is not known whether it adds one, only a text with two can be wrong.
    """
    if not trained.bos or (adds_bos is None and not text.startswith(trained.bos * 2)):
        return
    mine = without_bos(prompt.rendered.text, trained.bos)[1]
    theirs = without_bos(text, trained.bos)[1] + bool(adds_bos)
    if mine != theirs:
        shown = f"trained {mine} BOS ({trained.bos}), sent {theirs}"
        found.add(bos_kind(mine, theirs), prompt.where, shown)


def with_trained_date(text: str) -> str:
    """The text with the trained date instead of today's, or of yesterday's around midnight."""
    today = datetime.now()
    for day in (today, today - timedelta(days=1)):
        for form in _DATE_FORMS:
            text = re.sub(rf"\b{re.escape(day.strftime(form))}\b", FROZEN_NOW.strftime(form), text)
    return text
