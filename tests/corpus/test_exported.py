"""Every shipped format as it is exported for transformers, by chatlint and by two engines.

A format may fail a property of chatlint's only where its owner's template does. The lists name those
formats with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import pytest

from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.adapt import adapt_to_format
from harness.formats.exchange.exporting import export_format
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from tests.corpus.engines import BOS, ENGINE_NOW, EOS, Engine, Prompt, by_transformers, clock
from tests.corpus.figures import read_record, write_record
from tests.corpus.shapes import SHAPES
from tests.corpus.survey import conversation

pytestmark = pytest.mark.corpus

#: In what words a format may refuse to write a conversation.
REFUSED = re.compile(
    r"no place for|can only stand first|only supports single tool-calls|must be alternat|"
    r"roles must|only the first|at the beginning|alphanumeric|writes (?:no words beside a|one) call|"
    r"and no other"
)
_LAST = "the owner writes the last turn differently: the system prompt is in the last question"
_TOOLS = "the owner writes the tools before the last question, which moves"
_THOUGHT = "the owner leaves thoughts of earlier turns out, or writes an empty one in the last"
_OPENS = "the owner's generation prompt opens a thought, which an earlier answer does not have"
_SPACE = "the owner's generation prompt ends differently from the text before an answer"
_ANSWERS = "two answers in a row have no header, or another end, between them"
#: Formats whose earlier text changes when the conversation goes on.
UNSTABLE = {
    **dict.fromkeys(("mistral-v3", "mistral-v3-tekken"), _LAST),
    **dict.fromkeys(("mistral-v7", "mistral-v7-tekken", "mistral-v11"), _TOOLS),
    **dict.fromkeys(
        ("qwen3", "harmony", "glm4.5", "kimi-k2-thinking", "qwen3.5", "qwen3.6"), _THOUGHT
    ),
    **dict.fromkeys(
        (
            *("deepseek-r1", "gemma4", "glm4.7", "minimax-m2", "nemotron-nano2"),
            *("nemotron3", "qwen3-thinking", "qwq"),
        ),
        _OPENS,
    ),
    **dict.fromkeys(("codellama-70b", "yandexgpt"), _SPACE),
    **dict.fromkeys(
        ("alpaca-stanford", "tulu", "deepseek-v3.1", "deepseek-v3.2", "minimax-m1"), _ANSWERS
    ),
    "hermes": "results in a row share a turn, whose end moves behind the last of them",
    "roleplay-markdown": "the prompt asks for two paragraphs, the history does not",
}
#: Formats that write the present date, as their owners do.
DATED = {
    "harmony": "OpenAI's system block has the date",
    "llama3.2": "Meta's system block has the date",
    "smollm3": "the owner's system block has the date",
    "granite3.3": "the owner's default system prompt has the date",
}
_FRONT = "the owner writes all system prompts first"
#: Formats that write messages in another order, or leave some out.
REORDERED = {
    "mistral-v3": _LAST,
    "mistral-v3-tekken": _LAST,
    "alpaca-input": "the first question is Alpaca's input, behind the system prompt's instruction",
    "llama3.1": "the owner leaves out words beside a call; our renderer refuses them",
    **dict.fromkeys(("deepseek-v3.1", "deepseek-v3.2", "minimax-m1"), _FRONT),
}
_CLOSED = "an answer without a thought begins with </think> alone"
#: Formats with a mark that is opened and not closed in one of the conversations, or the reverse.
UNBALANCED = {
    "harmony": "an answer ends with <|return|> or <|call|>, not <|end|>",
    **dict.fromkeys(("deepseek-v3.1", "deepseek-v3.2", "glm4.7"), _CLOSED),
    "gemma4": "results are in the answer's turn, which a question does not close",
    "smollm3": "the owner's system block has no <|im_end|> before the first question",
}


@lru_cache(maxsize=1)
def _checked():
    """chatlint's results: (format, shape, property, verdict, detail)."""
    pytest.importorskip("chatlint")
    from chatlint.properties import all_properties
    from chatlint.render import Template
    from chatlint.rendering import Rendering
    from chatlint.shapes import all_shapes

    results = []
    for chat_format in load_formats().values():
        template = Template(chat_format.id, export_format(chat_format, "hf").text)
        for shape in all_shapes():
            rendering = Rendering(template, shape)
            for check in all_properties():
                result = check(template, shape, rendering)
                results.append((chat_format.id, shape.name, result))
    return results


@pytest.fixture(scope="module", autouse=True)
def _recorded(request):
    """With --corpus-record: how often each property passes, in the record of the corpus."""
    yield
    if not request.config.getoption("--corpus-record"):
        return
    counts: dict[str, Counter[str]] = {}
    for _, _, result in _checked():
        counts.setdefault(result.prop, Counter())[result.verdict] += 1
    record = read_record()
    record.exported = {name: dict(found) for name, found in sorted(counts.items())}
    write_record(record)


def _failing(name):
    return {
        format_id
        for format_id, _, result in _checked()
        if result.prop == name and result.verdict == "fail"
    }


#: Formats that write a value as Python does, since their models were trained on that.
PYTHON = {"smollm3": "the owner lists tools as Python dicts; JSON would be unknown to the model"}


def test_nothing_is_written_as_python_writes_it():
    assert _failing("no_repr_leak") == set(PYTHON)


def test_what_does_not_render_is_refused_in_words():
    for format_id, shape, result in _checked():
        if result.verdict == "error":
            assert REFUSED.search(result.detail), (format_id, shape, result.detail)


def test_nulls_and_parts_render_in_every_format():
    passed = Counter()
    for format_id, shape, result in _checked():
        if result.prop == "renders" and shape in ("content_as_parts", "reasoning_only"):
            assert result.verdict == "pass", (format_id, shape, result.detail)
            passed[shape] += 1
    assert passed == dict.fromkeys(("content_as_parts", "reasoning_only"), len(load_formats()))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("prefix_stability", UNSTABLE),
        ("time_invariance", DATED),
        ("content_order", REORDERED),
        ("marker_balance", UNBALANCED),
    ],
)
def test_a_property_fails_where_the_owner_is_the_reason(name, known):
    assert _failing(name) == set(known)


@lru_cache(maxsize=1)
def _texts():
    """Each format's exported template and, for each shape, our text or None."""
    found = {}
    for chat_format in load_formats().values():
        ours = {}
        for shape in SHAPES:
            adapted = adapt_to_format(conversation(shape), chat_format)
            try:
                ours[shape] = render(adapted, chat_format, bos_token=BOS, eos_token=EOS).text
            except HarnessError:
                ours[shape] = None
        found[chat_format.id] = (export_format(chat_format, "hf").text, ours)
    return found


def test_transformers_writes_what_we_write():
    different = Counter()
    with clock(FROZEN_NOW):
        for format_id, (template, ours) in _texts().items():
            for shape, text in ours.items():
                written = by_transformers(template, Prompt(shape.messages, shape.tools))
                lost = text is None and format_id in REORDERED
                taken_apart = "no place for arguments as text" in written.refusal
                if written.text != text and not lost and not taken_apart:
                    different[format_id, shape.name] += 1
    assert not different


def test_llama_cpp_writes_what_we_write():
    """Of what both write. Its engine has the date of ENGINE_NOW."""
    different = {}
    for format_id, (template, ours) in _texts().items():
        shapes = [
            shape
            for shape, text in ours.items()
            if text is not None and shape.name != "arguments-as-text"
        ]
        prompts = [Prompt(shape.messages, shape.tools) for shape in shapes]
        with clock(ENGINE_NOW):
            expected = [by_transformers(template, prompt).text or "" for prompt in prompts]
        for at, other in Engine(template).differing(prompts, expected).items():
            different[format_id, shapes[at].name] = other.refusal or other.text
    assert not different
