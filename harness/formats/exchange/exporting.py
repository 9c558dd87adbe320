"""Write formats for other programs: each export is read back and compared before it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.conversation import Message
from harness.errors import HarnessError
from harness.formats.exchange.comparing import differences, renderer_of
from harness.formats.exchange.programs.jinja import (
    read_jinja,
    write_axolotl,
    write_jinja,
    write_training_jinja,
    write_webui,
    yaml_block_reader,
)
from harness.formats.exchange.programs.llamafactory import read_llamafactory, write_llamafactory
from harness.formats.exchange.programs.ollama import read_ollama, write_ollama
from harness.formats.exchange.programs.sillytavern import read_sillytavern, write_sillytavern
from harness.formats.exchange.programs.special_tokens import SPELT_BOS, SPELT_EOS
from harness.formats.turns import BOS, EOS, Renderer
from harness.records import Format


@dataclass(frozen=True)
class Exported:
    """The text for another program, and one sentence for each thing that was lost."""

    text: str
    lost: tuple[str, ...] = ()


class _Target(NamedTuple):
    """How a program's text is written and read.

    A program that ``spells_tokens`` has no variables for BOS and EOS, and leaves the first BOS to
    its server.
    """

    write: Callable[[Format], str]
    read: Callable[[str], Renderer]
    spells_tokens: bool = False


def export_format(chat_format: Format, target: str) -> Exported:
    """Write a format for a program and read it back.

    Raises HarnessError when the program cannot express it.
    """
    program = TARGETS[target]
    refused = f"{chat_format.id} cannot be written for {target}"
    try:
        text = program.write(chat_format)
    except HarnessError as error:
        raise HarnessError(f"{refused}: {error.message}") from None
    theirs, ours = program.read(text), renderer_of(chat_format)
    if program.spells_tokens:
        theirs, ours = _unspelling(theirs), _without_bos(ours)
    wrong, lost = differences(theirs, ours, system=chat_format.system != "unsupported")
    if wrong:
        raise HarnessError(f"{refused}: {wrong}")
    if program.spells_tokens and "eos_token" in chat_format.template:
        lost.append(f"EOS is spelt {SPELT_EOS}: replace it by your model's")
    if chat_format.names != "none":
        lost.append("speakers' names: the program writes its own")
    return Exported(text, tuple(lost))


def _unspelling(read: Renderer) -> Renderer:
    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        text = read(messages, add_generation_prompt)
        return None if text is None else text.replace(SPELT_BOS, BOS).replace(SPELT_EOS, EOS)

    return render


def _without_bos(read: Renderer) -> Renderer:
    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        text = read(messages, add_generation_prompt)
        return None if text is None else text.removeprefix(BOS)

    return render


#: The programs that a format can be written for.
TARGETS = {
    "hf": _Target(write_jinja, read_jinja),
    "hf-training": _Target(write_training_jinja, read_jinja),
    "llamacpp": _Target(write_jinja, read_jinja),
    "webui": _Target(write_webui, yaml_block_reader("instruction_template")),
    "axolotl": _Target(write_axolotl, yaml_block_reader("chat_template_jinja")),
    "sillytavern": _Target(write_sillytavern, read_sillytavern, spells_tokens=True),
    "ollama": _Target(write_ollama, read_ollama, spells_tokens=True),
    "llamafactory": _Target(write_llamafactory, read_llamafactory),
}
