"""Templates from elsewhere are compiled and run with limits, at every rendering."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from harness.backends.openai import OpenAIBackend
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.evaluation.engines import _format_of_template
from harness.evaluation.format_groups import native_format_id
from harness.formats import guard, load_formats
from harness.formats.exchange.sources import read_source
from harness.formats.foreign import foreign_renderer, render_foreign
from harness.formats.format_set import load_format
from harness.formats.frontmatter import parse_format
from harness.formats.guard import TemplateFaultError, check_template, render_guarded
from harness.formats.render import render
from harness.formats.tracing import Shape, Traced, trace
from tests.tiny import CHATML

resource = pytest.importorskip("resource")  # Windows has no such limits
HEAD = '{#---\nfamily = "toy"\n---#}\n'
FOREVER = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
#: Name → a template that does harm as soon as it is compiled or run.
BOMBS = {
    "a constant of 4 GB": '{{ ("a"*4000000000)|length }}',
    "a constant power": "{{ 10**100000000 }}",
    "a constant list": "{{ [0]*9999999999 }}",
    "nested loops": FOREVER,
    "a power at run time": "{% set n = messages|length %}{{ (n+9)**(n*100000000) }}",
    "memory at run time": "{% set n = messages|length %}{{ ('a' * (n * 4000000000))|length }}",
    "text": "{% for i in range(99999) %}{{ messages[0].content * 99 }}{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "the interpreter": "{{ messages.__class__.__mro__ }}",
}
#: Name → a condition under which the guard's first look finds nothing.
FUSES = {
    "another BOS": "{% if bos_token != '<s>' %}",
    "six messages": "{% if messages|length > 5 %}",
    "a word": "{% if 'Quench' in messages[0].content %}",
    "no prompt": "{% if not add_generation_prompt and messages|length == 2 %}",
}


def conversation(n=2, first="Quench"):
    roles = ("user", "assistant")
    texts = [first, *(f"text {at}" for at in range(1, n))]
    return Conversation("c", tuple(Message(roles[at % 2], text) for at, text in enumerate(texts)))


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write(folder, name, template):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(template)
    return folder


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_reaches_this_process(tmp_path, bomb):
    template, before, began = BOMBS[bomb], memory(), time.process_time()
    folder = write(tmp_path / "formats", "bomb.jinja", HEAD + template)
    config = write(
        tmp_path / "model", "tokenizer_config.json", json.dumps({"chat_template": template})
    )
    for load in (
        lambda: load_formats(folder),
        lambda: load_format(folder / "bomb.jinja"),
        lambda: read_source(config),
        lambda: foreign_renderer(template, where="server"),
    ):
        with pytest.raises(HarnessError, match="the template is refused"):
            load()
    assert _format_of_template(template, load_formats()) is None  # a server's /props
    assert memory() - before < 300_000  # KiB
    assert time.process_time() - began < 5


@pytest.mark.parametrize("fuse", FUSES)
def test_a_bomb_with_a_fuse_is_limited_when_it_goes_off(tmp_path, fuse):
    template = FUSES[fuse] + FOREVER + "{% endif %}" + CHATML
    file = write(tmp_path / "formats", "fuse.jinja", HEAD + template) / "fuse.jinja"
    fused = load_format(file)  # nothing is found yet
    with pytest.raises(HarnessError, match="the template is refused"):
        for each in (conversation(), conversation(7)):
            render(each, fused, bos_token="<other>")
    began = time.process_time()
    with pytest.raises(HarnessError, match="the template is refused"):  # and from now on at once
        render(conversation(1, "harmless"), fused)
    assert time.process_time() - began < 0.5
    shipped = load_formats()["chatml"]
    assert render(conversation(), shipped).text  # the control


def test_the_models_own_template_with_a_fuse_is_reported(tokenizer, capsys):
    original = tokenizer.chat_template
    known = load_formats().values()
    try:
        assert native_format_id(tokenizer, known) == "chatml"
        fuse = "{% if messages[0].content == 'rules' %}" + FOREVER + "{% endif %}"
        tokenizer.chat_template = fuse + CHATML
        assert native_format_id(tokenizer, known) is None
    finally:
        tokenizer.chat_template = original
    assert "the template is refused" in capsys.readouterr().err


def test_the_process_works_on_after_it_was_ended(monkeypatch):
    """A process that is killed from outside, or stuck, is replaced."""
    render_it = foreign_renderer(CHATML, where="x")
    guard._PROCESS._running.kill()
    guard._PROCESS._running.wait()
    assert render_it((Message("user", "a"),), True)
    monkeypatch.setattr(guard, "_PATIENCE", 0.0)
    monkeypatch.setattr(guard, "SECONDS", 0.3)
    stuck = "{# stuck #}{% if messages|length == 1 %}" + FOREVER + "{% endif %}"
    with pytest.raises(HarnessError, match="refused"):
        foreign_renderer(stuck, where="y")
    monkeypatch.undo()
    assert render_it((Message("user", "b"),), True)


def test_an_interrupted_rendering_leaves_no_reply_to_the_next():
    """Ctrl-C in a notebook, then another cell."""
    slow = "{% if messages[0].content == 'slow' %}" + FOREVER + "{% endif %}"
    render_it = foreign_renderer(slow + "{{ messages[0].content }}", where="x")

    def interrupt(*_args):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            render_it((Message("user", "slow"),), True)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert render_it((Message("user", "b"),), True) == "b"


def test_the_shipped_formats_need_no_process(monkeypatch):
    monkeypatch.setattr(guard._PROCESS, "_start", lambda: pytest.fail("started"))
    for each in load_formats().values():
        assert render(conversation(), each).text
    with pytest.raises(pytest.fail.Exception, match="started"):  # the control
        foreign_renderer(CHATML, where="x")


def test_a_long_conversation_has_more_room(tmp_path):
    """Half a million characters are written by a format of the user's, and by ours."""
    shipped = load_formats()["chatml"]
    own = parse_format(HEAD + shipped.template, tmp_path / "own.jinja")
    long = conversation(8, "word " * 100_000)
    assert not own.trusted and shipped.trusted
    assert render(long, own).text == render(long, shipped).text


@pytest.mark.parametrize(
    ("words", "written", "fine"),
    [
        (1, 100_000 + 16, True),
        (1, 100_001 + 16, False),
        (50_000, 16 * 50_000 + 100_000, True),  # a format that repeats its words
        (50_000, 16 * 50_000 + 100_001, False),
    ],
)
def test_how_many_characters_a_rendering_may_write(words, written, fine):
    template = f"{{% if messages[0].content|length == {words} %}}"
    template += f"{{{{ 'x' * {written} }}}}{{% endif %}}"
    write_it = foreign_renderer(template, where="long")
    if fine:
        assert len(write_it((Message("user", "a" * words),), True)) == written
    else:
        with pytest.raises(HarnessError, match=f"writes {written} characters; {written - 1} are"):
            write_it((Message("user", "a" * words),), True)


def test_how_much_processor_time_a_rendering_may_take(monkeypatch):
    asked = []
    monkeypatch.setattr(
        guard._PROCESS, "ask", lambda request: asked.append(request) or {"result": ""}
    )
    for words in (0, 50_000, 100_000):
        rows = [{"role": "user", "content": "a" * words}]
        guard.render_guarded("x", rows, "x", add_generation_prompt=True, tokens={})
    assert [request["seconds"] for request in asked] == [2.0, 2.5, 3.0]


def test_a_kept_template_has_time_for_a_rendering_of_each_answer(monkeypatch):
    asked = []
    monkeypatch.setattr(
        guard._PROCESS, "ask", lambda request: asked.append(request) or {"result": {"text": ""}}
    )
    for answers in (0, 1, 9):
        rows = [{"role": "user", "content": "a" * 100_000}, *[{"role": "assistant"}] * answers]
        guard.trace_kept_guarded({"template": "x", "messages": rows, "tools": []}, "x")
    assert [round(request["seconds"]) for request in asked] == [3, 4, 12]
    assert asked[2]["most"] < 2_000_000, "its text is written once"


def test_a_template_of_more_than_a_million_characters_is_not_read():
    with pytest.raises(HarnessError, match="a template of 1000001 characters"):
        foreign_renderer("x" * 1_000_001, where="long")


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(load_formats())),
    st.lists(st.text(max_size=20), min_size=1, max_size=5),
    st.booleans(),
)
def test_the_limited_process_renders_as_this_one(format_id, texts, prompt):
    """Text and spans, and what a template raises: the same on both sides."""
    shipped = load_formats()[format_id]
    own = parse_format(HEAD + shipped.template, Path(f"{format_id}.jinja"))
    roles = tuple(("user", "assistant")[at % 2] for at in range(len(texts)))
    shape = Shape(roles, (None,) * len(texts), prompt, "<s>", "</s>", "Assistant", "User")
    results = []
    for chat_format in (shipped, own):
        try:
            results.append(trace(chat_format, shape, texts, Traced))
        except TemplateError as error:
            results.append(str(error))
    assert results[0] == results[1]


@given(st.text(max_size=60), st.text(max_size=10))
def test_any_template_compiles_or_is_one_line(template, content):
    """Whatever the text is: a rendering, a refusal of the messages, or a HarnessError."""
    try:
        write_it = foreign_renderer("{{ bos_token }}" + template, where="any")
        text = write_it((Message("user", content),), False)
    except HarnessError as error:
        assert "\n" not in str(error).replace(template, "")
        return
    if text is not None:
        rows = [{"role": "user", "content": content}]
        tokens = {"bos_token": "\ue0b0", "eos_token": "\ue0b1"}
        here = render_foreign(
            "{{ bos_token }}" + template, rows, add_generation_prompt=False, **tokens
        )
        assert here == text


def test_facts_of_a_server_that_are_no_texts_are_no_template():
    backend = OpenAIBackend("http://127.0.0.1:9/v1", "m")
    backend.facts.__dict__["props"] = {"chat_template": ["x"], "eos_token": {"a": 1}}
    assert backend.chat_template is None and backend.eos_token == ""


def test_to_change_a_list_is_a_refusal_and_no_harm():
    """transformers' sandbox refuses it too; a template may do so for tools alone."""
    template = "{% set _ = messages.append(1) %}"
    check_template(template, "here")
    with pytest.raises(TemplateFaultError, match="'append' of 'list' object is unsafe"):
        render_guarded(template, [], "here", add_generation_prompt=False, tokens={})
