"""Spell BOS and EOS for programs that have no variable for them."""

from __future__ import annotations

from dataclasses import replace

from harness.formats.exchange.comparing import renderer_of
from harness.formats.turns import BOS, EOS, Turns, read_turns
from harness.records import Format

#: Spellings of BOS and EOS in texts that people paste.
BOS_TEXTS = ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "<BOS_TOKEN>", "<BOS>")
EOS_TEXTS = ("</s>", "<|endoftext|>", "<eos>", "<|eos|>", "<EOS>")
#: Their spelling in our exports.
SPELT_BOS, SPELT_EOS = "<s>", "</s>"


def spell_tokens(text: str) -> str:
    """Replace the two characters that stand for BOS and EOS by their spelling."""
    return text.replace(BOS, SPELT_BOS).replace(EOS, SPELT_EOS)


def unspell_tokens(text: str) -> str:
    """Replace every spelling of BOS and EOS by the two characters that stand for them."""
    for written, mark in (
        *((text, BOS) for text in BOS_TEXTS),
        *((text, EOS) for text in EOS_TEXTS),
    ):
        text = text.replace(written, mark)
    return text


def front_end_turns(chat_format: Format) -> Turns:
    """A format's pieces without the first BOS, which front ends leave to their server."""
    turns = read_turns(renderer_of(chat_format))
    opens = turns.system_open
    return replace(
        turns,
        begin=turns.begin.removeprefix(BOS),
        system_open=None if opens is None else opens.removeprefix(BOS),
    )
