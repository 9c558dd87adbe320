"""Other people's chat templates, rendered as transformers renders them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, Undefined
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.errors import HarnessError
from harness.formats.tracing import FROZEN_NOW, GenerationTag, raise_exception
from harness.formats.turns import BOS, EOS, Renderer
from harness.records import Message


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
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


def render_foreign(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool,
    bos_token: str,
    eos_token: str,
) -> str:
    """The text that transformers' apply_chat_template writes. Raises what the template raises."""
    return _compiled(template).render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        bos_token=bos_token,
        eos_token=eos_token,
        generation_mark="",
    )


def foreign_renderer(template: str, *, where: str) -> Renderer:
    """A chat template as a function from messages to text, or to None where it refuses them.

    Raises HarnessError for a template that does not compile; the function raises it for one that
    tries to reach the interpreter.
    """
    try:
        _compiled(template)
    except TemplateSyntaxError as error:
        raise HarnessError(
            f"the template does not compile: {error.message}", where=f"{where}:{error.lineno}"
        ) from None

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        rows = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return render_foreign(
                template,
                rows,
                add_generation_prompt=add_generation_prompt,
                bos_token=BOS,
                eos_token=EOS,
            )
        except SecurityError as error:
            raise HarnessError(
                f"the template tries to reach the interpreter: {error}", where=where
            ) from None
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
            return None

    return render
