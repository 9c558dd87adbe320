"""Faults of chat templates that people reported elsewhere, each with a small template of our own."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.formats import load_format, load_formats
from harness.formats.kept.kept_render import frozen_clock
from harness.formats.render import render

DATE = (
    "{{- bos_token }}{%- for message in messages %}{%- if loop.first %}{{- '<|sys|>Today is ' + "
    "strftime_now('%d %B %Y') + '<|end|>\n' }}{%- endif %}{{- '<|' + message['role'] + '|>' + "
    "message['content'] + '<|end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)
BETWEEN = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<<system>>Be kind.<<end>>' }}{% endif %}{{ '<<' + message['role'] + '>>' + "
    "message['content'] }}{% if not loop.last or add_generation_prompt %}{{ '<<end>>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<<assistant>>' }}{% endif %}"
)
NEEDS = (
    "{%- if not functions.names %}{{- raise_exception('needs functions') }}{%- endif %}"
    "{%- for message in messages %}{{- '<' + message['role'] + '>' + message['content'] + '\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<assistant>' }}{%- endif %}"
)
MARKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = tuple(
    Message(role, words)
    for role, words in (("user", "Hi"), ("assistant", "Yes"), ("user", "So?"), ("assistant", "No"))
)


def imported(tmp_path, capsys, template, *options):
    """The format that the command makes of a template, and what it prints."""
    (tmp_path / "t.jinja").write_text(template)
    command = ["formats", "import", str(tmp_path / "t.jinja"), "--id", "t", "--force"]
    assert main([*command, "--out", str(tmp_path / "formats"), *options]) == 0
    return load_format(tmp_path / "formats" / "t.jinja"), capsys.readouterr().out


def written(chat_format, messages=TURNS, **options):
    return render(Conversation("c", messages), chat_format, bos_token="<s>", **options)


def trained(rendered):
    return [rendered.text[span.start : span.end] for span in rendered.spans if span.trained]


def test_a_date_stays_a_date(tmp_path, capsys):
    """sglang #3296, text-generation-inference #2987: a frozen date of another year."""
    chat_format, out = imported(tmp_path, capsys, DATE)
    assert "holds the date of the day" in out and "strftime_now" in chat_format.template
    text = (tmp_path / "formats" / "t.jinja").read_text()
    assert not re.search(r"\b20\d\d\b", text)
    for date in (datetime(2025, 1, 31), datetime(2031, 12, 1)):
        with frozen_clock(date):
            assert f"Today is {date:%d %B %Y}" in written(chat_format).text
    today = f"{datetime.now():%d %B %Y}"
    assert today in written(chat_format).text or f"{datetime.now():%d %B %Y}" != today


@pytest.mark.parametrize("writes", ["strftime_now('%d %b %Y')", "'26 Jul 2024'"])
def test_a_date_is_never_equal_to_one_that_is_written_out(tmp_path, capsys, writes):
    """llama3.1 writes 26 July 2024, the day that was the clock of every import."""
    source = re.sub(r"\{%- ?(?:end)?generation ?-?%\}\n?", "", load_formats()["llama3.1"].template)
    assert "26 Jul 2024" in source
    spoilt = re.sub(r"26 Jul 2024", "' + DATE + '", source).replace("DATE", writes)
    (tmp_path / "t.jinja").write_text(spoilt)
    main(["formats", "detect", str(tmp_path / "t.jinja"), "--json"])
    equal = "llama3.1" in json.loads(capsys.readouterr().out)["equals"]
    assert equal == (writes == "'26 Jul 2024'")


def test_a_stop_that_is_written_only_between_turns(tmp_path, capsys):
    """Qwen1.5, GLM-4.6, Apertus, SOLAR; unsloth #416: the last answer never ends."""
    chat_format, out = imported(tmp_path, capsys, BETWEEN)
    assert "The last answer has no stop: the template writes <<end>> only when something" in out
    assert chat_format.stops == ("<<end>>",)
    assert trained(written(chat_format)) == ["Yes", "<<end>>", "No"]
    assert main(["formats", "check", "t", "--formats-dir", str(tmp_path / "formats")]) == 0
    assert "The last answer has no stop" in capsys.readouterr().out


def test_no_finding_where_the_stop_is_always_written(tmp_path, capsys):
    chat_format, out = imported(tmp_path, capsys, MARKS)
    assert "finding:" not in out
    assert trained(written(chat_format)) == ["Yes", "<|im_end|>", "No", "<|im_end|>"]


def test_the_templates_own_reason_is_shown(tmp_path, capsys):
    """firefunction, ShieldGemma: the reason was hidden."""
    (tmp_path / "t.jinja").write_text(NEEDS)
    command = ["formats", "import", str(tmp_path / "t.jinja"), "--out", str(tmp_path)]
    assert main(command) == 2
    assert "'functions' is undefined" in capsys.readouterr().err
    given = ["--variable", 'functions={"names": []}', "--id", "given"]
    assert main([*command, *given]) == 2
    assert "needs functions" in capsys.readouterr().err
    chat_format, _ = imported(tmp_path, capsys, NEEDS, "--variable", 'functions={"names": "x"}')
    assert chat_format.variables == {"functions": {"names": "x"}}
    assert written(chat_format).text == "<user>Hi\n<assistant>Yes\n<user>So?\n<assistant>No\n"


GGUFS = {
    "wrong EOS": (MARKS, [3, 3, 3], 0, None, "EOS <|endoftext|> is not the mark <|im_end|>"),
    "two BOS": ("{{ bos_token }}" + MARKS, [3, 3, 3], 2, True, "add_bos_token is set and the"),
    "plain mark": (MARKS, [3, 1, 1], 2, None, "<|im_end|> is not a control token in this file"),
    "none": (MARKS, [3, 3, 3], 2, True, ""),
}


@pytest.mark.local
@pytest.mark.parametrize("fault", GGUFS)
def test_facts_of_a_gguf_file_that_break_serving(tmp_path, capsys, fault):
    """llama.cpp #7062, unsloth #3899."""
    import gguf

    template, kinds, eos, adds_bos, finding = GGUFS[fault]
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a"])
    writer.add_token_types([*kinds, 1])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(eos)
    writer.add_chat_template(template)
    if adds_bos is not None:
        writer.add_add_bos_token(adds_bos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    for command in (["import", "--out", str(tmp_path / "formats"), "--id", "m"], ["check"]):
        name, *options = command
        assert main(["formats", name, str(tmp_path / "m.gguf"), *options]) == 0
        out = capsys.readouterr().out
        sentences = [line for line in out.splitlines() if "token" in line or "EOS" in line]
        assert len(sentences) == bool(finding) and finding in " ".join(sentences), out
