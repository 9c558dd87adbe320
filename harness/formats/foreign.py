"""Other people's chat templates, rendered as transformers renders them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Template, Undefined
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.conversation import Message
from harness.formats.guard import TemplateFaultError, check_template, render_guarded
from harness.formats.tracing import FROZEN_NOW, GenerationTag, raise_exception
from harness.formats.turns import BOS, EOS, Renderer


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """Set up as in transformers' utils/chat_template_utils.py.

    Undefined names are empty, and tojson leaves letters alone.
    """
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=Undefined,
        extensions=[GenerationTag, loopcontrols],
        autoescape=False,
    )
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = FROZEN_NOW.strftime
    return env


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@lru_cache(maxsize=256)
def compiled(template: str) -> Template:
    """A template of transformers' dialect, compiled in this process."""
    return _environment().from_string(template)


def render_foreign(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
    **variables: Any,
) -> str:
    """The text that transformers' apply_chat_template writes, computed in this process.

    ``variables`` are the tokenizer's special tokens, such as ``bos_token``, the ``tools``, and what
    else the template reads. Raises what the template raises. For templates from elsewhere call
    ``foreign_renderer`` or ``guard.render_guarded``.
    """
    known = {"tools": None, "documents": None, "generation_mark": "", **variables}
    return compiled(template).render(
        messages=messages, add_generation_prompt=add_generation_prompt, **known
    )


def foreign_renderer(template: str, *, where: str) -> Renderer:
    """A chat template as a function from messages to text, or to None where it refuses them.

    It runs in a limited process (harness.formats.guard). Raises HarnessError for a template that
    does not compile or does harm, and so does the function.
    """
    check_template(template, where)

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        rows = [{"role": message.role, "content": message.content} for message in messages]
        tokens = {"bos_token": BOS, "eos_token": EOS}
        try:
            return render_guarded(
                template, rows, where, add_generation_prompt=add_generation_prompt, tokens=tokens
            )
        except TemplateFaultError:
            return None

    return render
