"""Other people's chat templates, rendered as transformers renders them.

The environment also takes sourced text (harness.formats.provenance) and gives it back: what a
template writes is then text that says where each of its characters came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_eval_context

from harness.conversation import Message
from harness.formats.guard import TemplateFaultError, check_template, render_guarded
from harness.formats.provenance import LITERAL, Sourced, join, joined, replaced, safe, to_json
from harness.formats.tracing import FROZEN_NOW, GenerationTag, raise_exception
from harness.formats.turns import BOS, EOS, Renderer


class _Namespace(Namespace):
    """That of transformers: it refuses names that begin with an underscore."""

    def __init__(*args: Any, **given: Any) -> None:
        self, rest = args[0], args[1:]
        attributes = dict(*rest, **given)
        for name in attributes:
            _refuse_underscore(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no name that begins with an underscore: {name!r}")


class _Generator(CodeGenerator):
    """``~`` keeps the source of what it joins."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined_texts((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Dict:
    """The function ``dict``, which is no type: ``dict['x']`` and its other attributes are none."""

    def __call__(self, *pairs: Any, **items: Any) -> dict[Any, Any]:
        return dict(*pairs, **items)

    def fromkeys(self, *keys: Any) -> dict[Any, Any]:
        return dict.fromkeys(*keys)


class _Environment(ImmutableSandboxedEnvironment):
    """Set up as in transformers' utils/chat_template_utils.py.

    Undefined names are empty, and tojson leaves letters alone.
    """

    code_generator_class = _Generator
    concat = staticmethod(join)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=Undefined,
            extensions=[GenerationTag, loopcontrols],
            autoescape=False,
        )
        self.filters.update(tojson=to_json, join=_join, replace=_replace, indent=_indent, safe=safe)
        self.globals.update(
            raise_exception=raise_exception,
            strftime_now=FROZEN_NOW.strftime,
            namespace=_Namespace,
            dict=_Dict(),
        )

    def joined_texts(self, parts: Iterable[Any]) -> Any:
        return join(map(str, parts))

    def call(self, context: Context, called: Any, /, *args: Any, **given: Any) -> Any:
        """A plain text's method too keeps the source of what it is given."""
        owner = getattr(called, "__self__", None)
        if type(owner) is str and called.__name__ in ("join", "replace"):
            called = getattr(Sourced.of(owner, LITERAL), called.__name__)
        return super().call(context, called, *args, **given)


@pass_eval_context
def _join(
    context: EvalContext, value: Iterable[Any], d: str = "", attribute: str | int | None = None
) -> Any:
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    return joined(str(d), map(str, value))


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> Any:
    return replaced(str(text), str(old), str(new), -1 if count is None else count)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> Any:
    indention = width if isinstance(width, str) else " " * width
    lines = (text + "\n").splitlines()
    rest = [indention + line if line or blank else line for line in lines[1:]]
    return joined("\n", [indention + lines[0] if first else lines[0], *rest])


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    return _Environment()


@lru_cache(maxsize=256)
def compiled(template: str) -> Template:
    """A template of transformers' dialect, compiled in this process."""
    return _environment().from_string(template)


def render_foreign(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
    now: datetime = FROZEN_NOW,
    **variables: Any,
) -> str:
    """The text that transformers' apply_chat_template writes, computed in this process.

    ``variables`` are the tokenizer's special tokens, such as ``bos_token``, the ``tools``, and what
    else the template reads. ``now`` is the time of ``strftime_now``. Raises what the template
    raises. For templates from elsewhere call ``foreign_renderer`` or ``guard.render_guarded``.
    """
    known = {
        "tools": None,
        "documents": None,
        "generation_mark": "",
        "strftime_now": now.strftime,
        **variables,
    }
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
