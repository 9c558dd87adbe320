"""A format from elsewhere is written exactly, or refused with the reason."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_format, load_formats
from harness.formats.exchange.detecting import rank_formats
from harness.formats.exchange.importing import import_format
from harness.formats.exchange.sources import Source, read_source
from harness.formats.foreign import foreign_renderer, render_foreign
from harness.formats.kept.kept_render import frozen_clock
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from tests.tiny import CHATML

FORMATS = load_formats()
WORDS = (
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cn", "Co"]), min_size=1)
    .map(str.strip)
    .filter(bool)
)


def foreign(chat_format):
    """A shipped format as a template of somebody else's, without our marks."""
    template = re.sub(r"[ \t]*\{%-? *(?:end)?generation *-?%\}\n?", "", chat_format.template)
    return Source(
        chat_format.id,
        "chat template",
        render=foreign_renderer(template, where=chat_format.id),
        template=template,
    )


TURNS = (
    Message("user", "one"),
    Message("assistant", "two"),
    Message("user", "three"),
    Message("assistant", "four"),
)


@pytest.mark.parametrize("format_id", sorted(FORMATS))
def test_the_mask_of_a_kept_template_is_that_of_the_marks_that_it_lost(format_id):
    """Our own marks are the truth. Only a header that is trained where no mark ends an answer
    stays out of a kept template's mask: there the next header is never trained.
    """
    ours = FORMATS[format_id]
    imported = import_format(foreign(ours), "copy")
    assert imported.format.template == foreign(ours).template and len(imported.proved) >= 6
    compared = 0
    for messages in (TURNS, (Message("system", "rules"), *TURNS[:2])):
        conversation = Conversation("c", messages)
        try:
            expected = render(conversation, ours, bos_token="<s>", eos_token="</s>")
        except HarnessError:
            continue  # it has no system prompt
        with frozen_clock(FROZEN_NOW):
            found = render(conversation, imported.format, bos_token="<s>", eos_token="</s>")
        assert found.text == expected.text
        trained, wanted = _trained(found), _trained(expected)
        if format_id in ("codellama-70b", "yandexgpt"):  # their prompt ends in another space
            trained, wanted = trained.replace(" ", ""), wanted.replace(" ", "")
        if wanted != trained:
            assert "next header is never trained" in " ".join(imported.findings)
            before, header, behind = re.fullmatch(r"(.*two)(.*?)(\s*four.*)", wanted, re.S).groups()
            header, thought = re.fullmatch(
                r"(.*?)(\s*(?:<think>)?</think>)?", header, re.S
            ).groups()
            assert imported.format.stops[0].strip().startswith(header.strip())
            wanted = before + (thought or "") + behind
        assert trained == wanted
        compared += 1
    assert compared


def _trained(rendered):
    return "".join(rendered.text[span.start : span.end] for span in rendered.spans if span.trained)


IMPORTED = {
    format_id: import_format(foreign(FORMATS[format_id]), "copy").format
    for format_id in (
        "chatml",
        "llama2-chat",
        "gemma3",
        "guanaco",
        "exaone3",
        "vicuna-v1.1",
        "solar",
        "phi3",
    )
}


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(IMPORTED)), WORDS, st.lists(WORDS, min_size=1, max_size=6), st.booleans()
)
def test_it_writes_unseen_conversations_as_the_source_does(format_id, system, words, with_system):
    messages = [
        Message("user" if index % 2 == 0 else "assistant", text) for index, text in enumerate(words)
    ]
    messages = [Message("system", system), *messages] if with_system else messages
    prompt = messages[-1].role == "user"
    texts = [
        render(
            Conversation("c", tuple(messages)),
            chat_format,
            add_generation_prompt=prompt,
            bos_token="<s>",
            eos_token="</s>",
        ).text
        for chat_format in (FORMATS[format_id], IMPORTED[format_id])
    ]
    assert texts[0] == texts[1]


@settings(max_examples=60)
@given(st.sampled_from(sorted(IMPORTED)), st.lists(WORDS, min_size=2, max_size=2))
def test_the_answer_and_its_end_are_trained(format_id, words):
    rendered = render(
        Conversation("c", (Message("user", words[0]), Message("assistant", words[1]))),
        IMPORTED[format_id],
        eos_token="</s>",
    )
    trained = "".join(rendered.text[s.start : s.end] for s in rendered.spans if s.trained)
    assert words[1] in trained and trained.strip() != words[1]


def test_a_model_folder(tmp_path, capsys):
    folder = tmp_path / "My Model"
    folder.mkdir()
    facts = {
        "bos_token": {"content": "<s>"},
        "eos_token": "<|im_end|>",
        "chat_template": [
            {"name": "tool_use", "template": "x"},
            {"name": "default", "template": CHATML},
        ],
        "added_tokens_decoder": {"1": {"content": "<|im_end|>", "special": True}},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    assert main(["formats", "import", str(folder), "--out", str(tmp_path / "formats")]) == 0
    assert "system own, stops ['<|im_end|>']" in capsys.readouterr().out
    chat_format = load_format(tmp_path / "formats" / "my-model.jinja")
    assert chat_format.stop_tokens == ("<|im_end|>",)
    assert (
        main(
            ["formats", "check", "my-model", "--formats-dir", str(tmp_path / "formats"), "--strict"]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["formats", "detect", str(folder), "--json"]) == 0
    assert "chatml" in json.loads(capsys.readouterr().out)["equals"]
    assert main(["formats", "import", str(folder), "--out", str(tmp_path / "formats")]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.local
def test_a_gguf_file(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_chat_template(
        FORMATS["llama3"]
        .template.replace("{%- generation %}", "")
        .replace("{%- endgeneration %}", "")
    )
    writer.add_token_list(["<|begin_of_text|>", "<|eot_id|>", "a"])
    writer.add_token_types([3, 3, 1])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    source = read_source(tmp_path / "m.gguf")
    assert source.bos_token == "<|begin_of_text|>" and source.special_tokens == (
        "<|begin_of_text|>",
        "<|eot_id|>",
    )
    assert import_format(source, "copy").format.stop_tokens == ("<|eot_id|>",)
    assert rank_formats(source, list(FORMATS.values()))[0][0].id == "llama3"


PRESET = {
    "name": "mine",
    "input_sequence": "### Human:",
    "input_suffix": "",
    "output_sequence": "### Robot:",
    "output_suffix": "\n\n",
    "last_output_sequence": "### Robot (be brief):",
    "stop_sequence": "### Human:",
    "wrap": True,
}
STORY = {
    "story_string": "{{#if system}}{{system}}\n{{/if}}"
    "{{#if scenario}}Scenario: {{scenario}}\n{{/if}}{{trim}}\n"
}


def test_a_sillytavern_preset_with_its_context(tmp_path, capsys):
    (tmp_path / "mine.json").write_text(json.dumps(PRESET))
    (tmp_path / "context.json").write_text(json.dumps(STORY))
    assert (
        main(
            [
                "formats",
                "import",
                str(tmp_path / "mine.json"),
                "--context",
                str(tmp_path / "context.json"),
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "last_output_sequence" in out and "EOS is written and trained" in out
    chat_format = load_format(tmp_path / "mine.jinja")
    messages = (
        Message("system", "S"),
        Message("user", "Q"),
        Message("assistant", "A"),
        Message("user", "R"),
    )
    text = render(
        Conversation("c", messages), chat_format, add_generation_prompt=True, eos_token="</s>"
    ).text
    assert text == ("S\n### Human:\nQ\n### Robot:\nA\n\n### Human:\nR\n### Robot (be brief):\n")
    assert "### Human:" in chat_format.stops


def test_a_master_export_holds_both(tmp_path):
    (tmp_path / "all.json").write_text(
        json.dumps(
            {
                "instruct": {**PRESET, "wrap": False},
                "context": {"story_string": "<sys>{{system}}</sys>\n"},
            }
        )
    )
    chat_format = import_format(read_source(tmp_path / "all.json"), "mine").format
    text = render(
        Conversation("c", (Message("system", "S"), Message("user", "Q"))),
        chat_format,
        add_generation_prompt=True,
    ).text
    assert text == "<sys>S</sys>\n### Human:Q### Robot (be brief):"


@pytest.mark.parametrize(
    ("example", "like"),
    [
        (
            "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
            "chatml",
        ),
        (
            "<|system|>\nSYS</s>\n<|user|>\nU1</s>\n<|assistant|>\nA1</s>\n<|user|>\nU2</s>\n<|assistant|>\n",
            "zephyr",
        ),
        ("<s>SYS\n\nUSER: U1\nASSISTANT: A1</s>\nUSER: U2\nASSISTANT:", "vicuna-v1.1-newline"),
    ],
)
def test_an_example_conversation(tmp_path, example, like):
    (tmp_path / "example.txt").write_text(example)
    source = read_source(tmp_path / "example.txt")
    assert like in [
        chat_format.id
        for chat_format, same, of in rank_formats(source, list(FORMATS.values()))
        if same == of
    ]
    assert "an example does not show" in " ".join(import_format(source, "copy").lost)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "U1 and no answer", "no A1 in the example"),
        ("a.txt", "Q: U1\nA: A1\nQ: U2\nB:", "differs from that between U1 and A1"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[]", "neither a tokenizer_config.json nor a SillyTavern"),
        ("a.jinja", "{% if %}", r"a\.jinja:1: the template does not compile"),
        ("a.jinja", "{{ messages[0].content }}", "cannot be imported: .* it leaves out words"),
        ("a.jinja", "{{ messages.__class__.__mro__ }}", "tries to reach the interpreter"),
        (
            "a.jinja",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "takes more than 2 s",
        ),
        ("a.jinja", "{% for i in range(999999999) %}x{% endfor %}", "loops too often"),
        ("a.jinja", "{% set x = 'a' * 99999999999 %}{{ x }}", "fills the memory"),
        (
            "a.jinja",
            "{% for i in range(99999) %}{{ 'ten words, ten words, again ten words' }}{% endfor %}",
            "writes 3699963 characters; 100000 are allowed",
        ),
        ("a.jinja", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself without end"),
    ],
)
def test_what_is_refused_and_why(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(HarnessError, match=message):
        import_format(read_source(tmp_path / name), "x")


@pytest.mark.parametrize(
    ("text", "message"), [("{", r"config\.json:1: not JSON"), ("[]", "expected one JSON object")]
)
def test_a_config_that_cannot_be_read_is_an_error(tmp_path, text, message):
    (tmp_path / "tokenizer_config.json").write_text(text)
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    (tmp_path / "preset.json").write_text(json.dumps(PRESET))
    for path, context in (
        (tmp_path, None),
        (tmp_path / "chat_template.jinja", None),
        (tmp_path / "preset.json", tmp_path / "tokenizer_config.json"),
    ):
        with pytest.raises(HarnessError, match=message):
            read_source(path, context)


def test_a_context_that_does_not_exist_is_an_error(tmp_path):
    (tmp_path / "preset.json").write_text(json.dumps(PRESET))
    with pytest.raises(HarnessError, match="cannot read: No such file"):
        read_source(tmp_path / "preset.json", tmp_path / "context.json")


def test_a_template_of_the_users_is_tried_out_before_it_runs_here(tmp_path):
    template = "{% for i in range(999999999) %}x{% endfor %}"
    (tmp_path / "loop.jinja").write_text('{#---\nfamily = "toy"\n---#}\n' + template)
    with pytest.raises(HarnessError, match=r"loop\.jinja: the template is refused: it loops too"):
        load_formats(tmp_path)


def test_templates_are_rendered_as_transformers_renders_them(tokenizer):
    template = (
        "{{ bos_token }}{% for m in messages %}{% if tools %}no{% endif %}{{ m | tojson }}"
        "{{ undefined_name }}{% endfor %}{{ strftime_now('') }}"
    )
    rows = [{"role": "user", "content": "ä <b> 'x'"}]
    assert render_foreign(
        template, rows, add_generation_prompt=True, bos_token=tokenizer.bos_token, eos_token=""
    ) == tokenizer.apply_chat_template(
        rows, chat_template=template, tokenize=False, add_generation_prompt=True
    )


def test_an_argument_that_a_source_has_no_use_for_is_refused(tmp_path):
    example, template, preset = (tmp_path / name for name in ("e.txt", "t.jinja", "p.json"))
    example.write_text("Q: U1\nA: A1\nQ: U2\nA: A2\n")
    template.write_text(load_formats()["chatml"].template)
    preset.write_text("{}")
    with pytest.raises(HarnessError, match="--context goes with a SillyTavern preset; this is a "):
        read_source(template, context=preset)
    assert read_source(template, template_name="default").template
    with pytest.raises(HarnessError, match="--template-name is for a model's chat templates"):
        read_source(example, template_name="default")
    source = read_source(example)
    with pytest.raises(HarnessError, match="--variable is for a chat template; this is a"):
        import_format(source, "e", {"date": "today"})
    assert import_format(source, "e").format.stops
