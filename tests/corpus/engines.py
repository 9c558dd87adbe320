"""The two references: transformers' own function, and llama.cpp's Jinja engine.

llama.cpp's engine is the WebAssembly module in the wheel of ggufdoctor, built from llama.cpp's
sources. Its rewriting of messages (``normalize``) is off, so both engines get the same input. It
inspects the template at each call, which takes ten times as long as rendering. A loop around the
template therefore renders many conversations in one call. A text that differs from the expected one
is rendered again alone before it counts as different.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

BOS, EOS = "<s>", "</s>"
TOKENS = {"bos_token": BOS, "eos_token": EOS}
#: What llama.cpp's engine takes for today.
ENGINE_NOW = datetime(2026, 1, 1)


class Prompt(NamedTuple):
    """What a template is given."""

    messages: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]] = ()
    generation: bool = False


class Written(NamedTuple):
    """The text, or why there is none."""

    text: str | None
    refusal: str = ""


@contextmanager
def clock(now: datetime) -> Iterator[None]:
    """Let transformers' ``strftime_now`` take this for the present."""
    from transformers.utils import chat_template_utils as module

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return now

    real, module.datetime = module.datetime, Frozen  # type: ignore[misc]
    try:
        yield
    finally:
        module.datetime = real  # type: ignore[misc]


def by_transformers(template: str, prompt: Prompt, **variables: Any) -> Written:
    """What ``apply_chat_template`` writes, by the function that it calls."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, _ = render_jinja_template(
            [list(prompt.messages)],
            tools=list(prompt.tools) or None,
            chat_template=template,
            add_generation_prompt=prompt.generation,
            **TOKENS,
            **variables,
        )
    except Exception as error:  # a template raises anything
        return Written(None, f"{type(error).__name__}: {error}")
    return Written(texts[0])


class Engine:
    """llama.cpp's Jinja engine for one template."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._store, self._exports = _instance()

    def write(self, prompt: Prompt) -> Written:
        """One text."""
        return self._ask(self._template, _context(prompt))

    def differing(self, prompts: Sequence[Prompt], expected: Sequence[str]) -> dict[int, Written]:
        """Which of the texts are not as expected, and what is written or refused instead."""
        if not prompts:
            return {}
        written = self._together(prompts) if len(prompts) > 1 else None
        if written is None and len(prompts) > 1:
            half = len(prompts) // 2
            left = self.differing(prompts[:half], expected[:half])
            right = self.differing(prompts[half:], expected[half:])
            return left | {half + at: text for at, text in right.items()}
        found = {}
        for at, prompt in enumerate(prompts):
            if written is None or written[at] != expected[at]:
                alone = self.write(prompt)
                if alone.text != expected[at]:
                    found[at] = alone
        return found

    def _together(self, prompts: Sequence[Prompt]) -> list[str] | None:
        """All texts by one call, or None where the template refuses one of them."""
        mark = "\ufdef"
        loop = (
            "{% for messages, tools, add_generation_prompt in prompts_ %}{{ mark_ }}"
            f"{self._template.removesuffix(chr(10))}{{{{ mark_ }}}}{{% endfor %}}"
        )
        rows = [[list(row.messages), list(row.tools) or None, row.generation] for row in prompts]
        whole = self._ask(loop, {**TOKENS, "messages": [], "prompts_": rows, "mark_": mark})
        pieces = (whole.text or "").split(mark)
        return pieces[1::2] if len(pieces) == 2 * len(prompts) + 1 else None

    def _ask(self, template: str, context: dict[str, Any]) -> Written:
        asked = {"template": template, "context": context, "normalize": False}
        payload = json.dumps(asked).encode()
        store, exports = self._store, self._exports

        try:
            place = exports["gd_alloc"](store, len(payload))
            exports["memory"].write(store, payload, place)
            out = exports["gd_render"](store, place, len(payload))
            raw = bytes(exports["memory"].read(store, out, out + exports["gd_out_len"](store)))
            exports["gd_free"](store, place)
        except Exception as error:  # a trap: the instance is not used again
            self._store, self._exports = _instance()
            return Written(None, f"trap: {error}".splitlines()[0])
        reply = json.loads(raw)
        if reply.get("ok"):
            return Written(reply["text"])
        reason = reply.get("error", "").strip().splitlines() or [""]
        return Written(None, f"{reply.get('stage')}: {reason[-1]}")


def _context(prompt: Prompt) -> dict[str, Any]:
    context = {**TOKENS, "messages": list(prompt.messages)}
    if prompt.tools:
        context["tools"] = list(prompt.tools)
    return {**context, "add_generation_prompt": prompt.generation}


def _instance() -> tuple[Any, Any]:
    import wasmtime

    engine, module, linker = _compiled()
    store = wasmtime.Store(engine)

    store.set_wasi(wasmtime.WasiConfig())
    exports = linker.instantiate(store, module).exports(store)
    exports["_initialize"](store)
    return store, exports


@lru_cache(maxsize=1)
def _compiled() -> tuple[Any, Any, Any]:
    import wasmtime

    config = wasmtime.Config()
    config.wasm_exceptions = True
    config.cache = True
    engine = wasmtime.Engine(config)
    data = resources.files("ggufdoctor.engine_data").joinpath("llamacpp-jinja.wasm").read_bytes()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    return engine, wasmtime.Module(engine, data), linker
