"""Sourced text is the plain text to a template, and says where each character came from.

Each character's source is its own code point, so a character with another's source is seen.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from harness.formats.foreign import render_foreign
from harness.formats.provenance import LITERAL, Sourced, join, joined, replaced, runs_of, to_json

_TEXT = st.text(alphabet='ab \n"\\é</>', max_size=12)
_SEPARATOR = st.text(alphabet="ab \n<", min_size=1, max_size=2)


def _sourced(text):
    return join([Sourced.of(char, ord(char)) for char in text]) if text else Sourced("", ())


def _check(found, expected):
    assert found == expected
    at = 0
    for length, source in runs_of(found):
        assert length > 0
        assert source == LITERAL or set(found.plain[at : at + length]) == {chr(source)}
        at += length
    assert at == len(found)


@given(_TEXT, _SEPARATOR, st.integers(-3, 3), st.integers(-3, 6), st.integers(-1, 2))
def test_every_operation_equals_that_of_plain_text(text, separator, start, end, count):
    sourced = _sourced(text)
    for one in (
        lambda value: value[start:end],
        lambda value: value[::-1],
        lambda value: value.strip(),
        lambda value: value.lstrip(separator),
        lambda value: value.rstrip(separator),
        lambda value: value.removeprefix(separator),
        lambda value: value.removesuffix(separator),
        lambda value: value.replace(separator, "xy", count),
        lambda value: value + "é" + value,
        lambda value: "é" + value,
        lambda value: value * 2,
        lambda value: joined(separator, [value, "c", value]),
        lambda value: f"{value}",
    ):
        _check(join([one(sourced), Sourced("", ())]), one(text))
    for parts in (
        lambda value: value.split(separator, count),
        lambda value: value.rsplit(separator, count),
        lambda value: value.split(None, count),
        lambda value: value.rsplit(None, count),
        lambda value: value.splitlines(),
        lambda value: value.splitlines(keepends=True),
        lambda value: value.partition(separator),
        lambda value: value.rpartition(separator),
        list,
    ):
        plain = parts(text)
        assert len(parts(sourced)) == len(plain)
        for found, expected in zip(parts(sourced), plain, strict=True):
            _check(found, expected)


@pytest.mark.parametrize("change", [str.upper, str.title, str.capitalize])
def test_a_letter_that_becomes_two_gives_no_character_another_source(change):
    """The capital of ß is SS, so the places of a joined text no longer tell its sources."""
    changed = getattr(join([Sourced.of("ß", 1), Sourced.of("x", 2)]), change.__name__)()
    assert changed == change("ßx") and len(changed) == 3
    assert runs_of(changed) == ((3, LITERAL),)
    alone = getattr(Sourced.of("ßx", 1), change.__name__)()
    assert runs_of(alone) == ((3, 1),)


def test_a_text_that_looks_like_the_number_of_another_is_written_as_it_is():
    value = [Sourced.of("word", 7), "\x000\x00", Sourced.of("\x000\x00", 8)]
    assert to_json(value) == json.dumps(value)


@given(_TEXT, _TEXT, _SEPARATOR)
def test_what_is_put_in_by_replacing_keeps_its_source(text, new, old):
    _check(join([replaced(text, old, _sourced(new)), Sourced("", ())]), text.replace(old, new))


@given(
    st.recursive(
        _TEXT | st.integers() | st.none(),
        lambda one: st.lists(one, max_size=3) | st.dictionaries(_TEXT, one, max_size=3),
        max_leaves=6,
    ),
    st.booleans(),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_json_is_that_of_plain_values(value, ascii_only, indent, sort):
    def sourced(part):
        if isinstance(part, str):
            return Sourced.of(part, 7)
        if isinstance(part, dict):
            return {sourced(key): sourced(one) for key, one in part.items()}
        return [sourced(one) for one in part] if isinstance(part, list) else part

    options = {"ensure_ascii": ascii_only, "indent": indent, "sort_keys": sort}
    assert to_json(sourced(value), **options) == json.dumps(value, **options)


@pytest.mark.parametrize(
    "template",
    [
        "a{{ word }}b",
        "a{{ word ~ 'x' }}{{ 'y' + word }}",
        "{{ ['a', word] | join(', ') }}{{ ', '.join(['a', word]) }}",
        "{{ 'a-b' | replace('-', word) }}{{ 'a-b'.replace('-', word) }}",
        "{% macro m(w) %}<{{ w }}>{% endmacro %}{{ m(word) | trim }}",
        "{% set w %}  {{ word }} {% endset %}{{ w.strip() }}",
        "{{ {'k': word} | tojson }}{{ word | tojson | safe }}",
        "{{ word | upper | lower | string }}{{ (word + '\\nz') | indent(2) }}",
        "{% for char in word %}{{ char }}.{% endfor %}",
        "{% set ns = namespace(text='') %}{% set ns.text = ns.text ~ word %}{{ ns.text }}",
    ],
)
def test_a_template_passes_the_source_on(template):
    def write(word):
        return render_foreign(template, [], add_generation_prompt=False, word=word)

    text = write(Sourced.of("tree", 7))
    assert text == write("tree")
    assert sum(length for length, source in runs_of(text) if source == 7) >= 4
    assert sum(length for length, _ in runs_of(text)) == len(text)


def test_dict_is_a_function_as_in_transformers():
    """Of Python's own type a template could ask ``dict.anything``, which is ``dict['anything']``."""
    written = render_foreign(
        "{{ dict([['a', 1]], b=2) | tojson }}{{ dict.fromkeys(['x']) | tojson }}",
        [],
        add_generation_prompt=False,
    )
    assert written == '{"a": 1, "b": 2}{"x": null}'
    with pytest.raises(UndefinedError):
        render_foreign("{{ dict.from_keys([]) }}", [], add_generation_prompt=False)
