"""The oracle of the corpus, against formats that say themselves what is trained."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from harness.formats import load_formats
from harness.formats.exchange.exporting import export_format
from harness.formats.render import render
from tests.corpus.engines import BOS, EOS
from tests.corpus.oracle import Renderings, faults, regions
from tests.corpus.shapes import CONTENT, PLAIN
from tests.corpus.survey import conversation

FORMATS = load_formats()
#: A stop behind each answer, by different means; the generation prompt is what is written before.
KINDS = ("chatml", "llama3", "deepseek-v3", "phi3", "command-r", "gigachat", "llama2-chat")
SHAPES = {
    shape.name: shape
    for shape in (*PLAIN, *CONTENT)
    if shape.name not in ("developer", "two-systems", "system-later")
}


def _seen(name, shape):
    return Renderings(export_format(FORMATS[name], "hf").text, shape)


def _trained(name, shape):
    """The text and what of it the format's own marks train."""
    ours = render(conversation(shape), FORMATS[name], bos_token=BOS, eos_token=EOS)
    marked = [False] * len(ours.text)
    for span in ours.spans:
        if span.trained:
            marked[span.start : span.end] = [True] * (span.end - span.start)
    return ours.text, marked


@pytest.mark.parametrize("name", KINDS)
def test_it_finds_what_the_generation_marks_say(name):
    proven = 0
    for shape in SHAPES.values():
        seen = _seen(name, shape)
        if seen.whole is None:
            continue
        text, trained = _trained(name, shape)
        assert text == seen.whole
        found = regions(seen)
        assert faults(text, trained, found) == [], (name, shape.name)
        proven += sum(not region.why for region in found)
    assert proven >= 20


@pytest.mark.parametrize("name", KINDS)
def test_a_planted_fault_is_found(name):
    seen = _seen(name, SHAPES["two-turns"])
    text, trained = _trained(name, SHAPES["two-turns"])
    found = regions(seen)
    first, second = found
    assert second.stop > second.words > second.start > first.stop > first.words

    def kinds(start, end, value):
        marked = [*trained]
        marked[start:end] = [value] * (end - start)
        return {(fault.kind, fault.message) for fault in faults(text, marked, found)}

    assert kinds(first.words - 1, first.words, False) == {("answer not trained", 1)}
    assert kinds(second.start, second.start + 2, False) == {("answer not trained", 3)}  # a space
    assert kinds(first.words, first.stop, False) == {("stop not trained", 1)}
    assert kinds(first.end, second.first, True) == {("more is trained", 1)}
    assert kinds(0, first.first, True) == {("more is trained", -1)}


def test_the_header_of_the_next_question_is_no_stop():
    """glm4 writes nothing else behind an answer, and its EOS behind the last."""
    first, last = regions(_seen("glm4", SHAPES["two-turns"]))
    assert first.stop == first.words == first.end
    assert last.stop - last.words == len(EOS)
