"""BOS and EOS in texts of programs that have no variable for them, and the pieces of a format as front ends write them."""

from __future__ import annotations

from dataclasses import replace

from harness.formats.exchange.comparing import renderer_of
from harness.formats.turns import BOS, EOS, Turns, read_turns
from harness.records import Format

#: How BOS and EOS are spelt in texts that people paste.
BOS_TEXTS = ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "<BOS_TOKEN>", "<BOS>")
EOS_TEXTS = ("</s>", "<|endoftext|>", "<eos>", "<|eos|>", "<EOS>")
#: How we spell them for a program.
SPELT_BOS, SPELT_EOS = "<s>", "</s>"


def spell_special_tokens(text: str) -> str:
    """The two characters that stand for BOS and EOS as a program's text."""
    return text.replace(BOS, SPELT_BOS).replace(EOS, SPELT_EOS)


def mark_special_tokens(text: str) -> str:
    """BOS and EOS as the two characters that stand for them."""
    for written, mark in (
        *((text, BOS) for text in BOS_TEXTS),
        *((text, EOS) for text in EOS_TEXTS),
    ):
        text = text.replace(written, mark)
    return text


def front_end_turns(chat_format: Format) -> Turns:
    """The pieces, without the first BOS: front ends leave it to the server that they talk to."""
    turns = read_turns(renderer_of(chat_format))
    opens = turns.system_open
    return replace(
        turns,
        begin=turns.begin.removeprefix(BOS),
        system_open=None if opens is None else opens.removeprefix(BOS),
    )
