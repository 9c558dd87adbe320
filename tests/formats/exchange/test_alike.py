"""Known formats are named for templates that write the same turns, with what differs."""

from __future__ import annotations

import pytest

from harness.formats import load_formats
from harness.formats.exchange.alike import BEGINS, ENDS, PROMPT, SPELT, SYSTEM, most_alike
from harness.formats.foreign import foreign_renderer

FORMATS = load_formats()
SOME = [FORMATS[name] for name in ("chatml", "llama3", "mistral-v0.2-hub", "deepseek-v3", "raw")]
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OWN_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nI am Zed.<|im_end|>\n{% endif %}"
)
DEEPSEEK = (
    "<|begin|>{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}<|end_of_it|>"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
)


def _named(template, formats=SOME):
    """The name and what differs; each block of a line is ended by its newline in Jinja."""
    found = most_alike(foreign_renderer(template, where="t.jinja"), formats)
    return found and (found.format.id, found.differs)


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (TURNS, ("chatml", ())),
        (OWN_SYSTEM + TURNS, ("chatml", (BEGINS,))),
        ("<|begin|>" + TURNS, ("chatml", (SPELT,))),
        (DEEPSEEK, ("deepseek-v3", (SPELT,))),
        (
            TURNS.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"),
            ("chatml", (PROMPT,)),
        ),
        (
            TURNS.replace(
                "<|im_end|>\n{% endfor",
                "{% if not loop.last or m.role == 'user' %}<|im_end|>\n{% endif %}{% endfor",
            ),
            ("chatml", (ENDS,)),
        ),
        (
            TURNS.replace("{{ m.role }}\n", "{{ 'rules' if m.role == 'system' else m.role }}\n"),
            ("chatml", (SYSTEM,)),
        ),
    ],
)
def test_a_variant_is_named_with_what_differs(template, named):
    assert _named(template) == named


@pytest.mark.parametrize(
    "template",
    [
        TURNS.replace("im_start", "turn_of"),
        TURNS.replace("<|im_end|>\n", "<|im_end|>\n\n"),
        TURNS.replace("{{ m.content }}", "{{ m.content | upper }}"),
        "{{ messages[0].content }}",
    ],
)
def test_other_turns_have_no_name(template):
    assert _named(template) is None


def test_a_shipped_format_is_itself():
    for name in ("gemma", "llama2-chat", "command-r", "alpaca-newline"):
        template = (
            FORMATS[name]
            .template.replace("{%- generation %}", "")
            .replace("{%- endgeneration %}", "")
        )
        assert _named(template, [FORMATS[name], *SOME]) == (name, ())
