"""SillyTavern presets: each rule by a preset written for it, with the text that SillyTavern 1.12.6
writes. The texts were made by its own functions once (docs/log.md has the figures).
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.exchange.detecting import rank_formats
from harness.formats.exchange.importing import import_format
from harness.formats.exchange.programs.story import fill_story
from harness.formats.exchange.sources import read_source
from harness.formats.properties import check_format
from harness.formats.render import render

S, Q, A, R = (
    Message("system", "S"),
    Message("user", "Q"),
    Message("assistant", "A"),
    Message("user", "R"),
)
TURNS = {"input_sequence": "<q>", "output_sequence": "<a>", "macro": True}
MARKED = {**TURNS, "input_suffix": "<e>\n", "output_suffix": "<e>\n"}
PLAIN_STORY = {"story_string": "{{#if system}}{{system}}\n{{/if}}"}


def imported(tmp_path, preset, context=None):
    (tmp_path / "preset.json").write_text(json.dumps(preset), encoding="utf-8")
    (tmp_path / "context.json").write_text(json.dumps(context), encoding="utf-8")
    context_path = tmp_path / "context.json" if context is not None else None
    return import_format(read_source(tmp_path / "preset.json", context_path), "mine")


def written(tmp_path, preset, context, messages=(S, Q, A, R), *, prompt=True, name=None):
    return render(
        Conversation("c", tuple(messages)),
        imported(tmp_path, preset, context).format,
        add_generation_prompt=prompt,
        eos_token="</s>",
        assistant_name=name,
    ).text


@pytest.mark.parametrize(
    ("preset", "context", "text"),
    [
        pytest.param(
            MARKED,
            PLAIN_STORY,
            "S\n<q>Q<e>\n<a>A<e>\n<q>R<e>\n<a>",
            id="no wrap",
        ),
        pytest.param(
            {**MARKED, "wrap": True},
            {"story_string": "<sys>\n{{#if system}}{{system}}\n{{/if}}{{trim}}<e>"},
            "<sys>\nS<e>\n<q>\nQ<e>\n<a>\nA<e>\n<q>\nR<e>\n<a>\n",
            id="wrap ends the story string with a newline",
        ),
        pytest.param(
            {**TURNS, "wrap": True},
            {"story_string": "{{system}}"},
            "S\n<q>\nQ\n<a>\nA\n<q>\nR\n<a>\n",
            id="wrap is the suffix where there is none",
        ),
        pytest.param(
            {**MARKED, "input_suffix": "<e>", "output_suffix": "<e>", "wrap": True},
            PLAIN_STORY,
            "S\n<q>\nQ<e><a>\nA<e><q>\nR<e>\n<a>\n",
            id="wrap gives the line that asks a line of its own",
        ),
        pytest.param(
            {**MARKED, "system_sequence_prefix": "[", "system_sequence_suffix": "]"},
            {"story_string": "({{system}})\n"},
            "([S])\n<q>Q<e>\n<a>A<e>\n<q>R<e>\n<a>",
            id="prefix and suffix of the system prompt beside a context",
        ),
        pytest.param(
            MARKED,
            {**PLAIN_STORY, "chat_start": "* {{char}} and {{user}} *"},
            "S\n* Tom and User *\n<q>Q<e>\n<a>A<e>\n<q>R<e>\n<a>",
            id="chat_start",
        ),
        pytest.param(
            {**MARKED, "last_output_sequence": "<a:>", "first_input_sequence": "<q1>"},
            PLAIN_STORY,
            "S\n<q1>Q<e>\n<a>A<e>\n<q>R<e>\n<a:>",
            id="first and last sequences",
        ),
        pytest.param(
            {**MARKED, "last_input_sequence": "<ql>", "first_input_sequence": "<q1>"},
            PLAIN_STORY,
            "S\n<q1>Q<e>\n<a>A<e>\n<ql>R<e>\n<a>",
            id="last question",
        ),
        pytest.param(
            {**MARKED, "names_behavior": "always"},
            PLAIN_STORY,
            "S\n<q>User: Q<e>\n<a>Tom: A<e>\n<q>User: R<e>\n<a>Tom:",
            id="names always",
        ),
        pytest.param(
            {**MARKED, "names_behavior": "force"},
            PLAIN_STORY,
            "S\n<q>Q<e>\n<a>A<e>\n<q>R<e>\n<a>",
            id="names in groups only",
        ),
        pytest.param(
            {**TURNS, "output_sequence": "[a] ", "last_output_sequence": "[a]", "names": True},
            PLAIN_STORY,
            "S\n<q>User: Q[a] Tom: A<q>User: R[a] Tom:",
            id="a space that only the history has, before a name",
        ),
        pytest.param(
            {
                "input_sequence": "<q>[{{name}}]{{newline}}",
                "output_sequence": "<a>[{{char}}] to {{user}}\n",
                "output_suffix": "{{// a note }}<e>",
                "input_suffix": "{{noop}}<e>",
            },
            PLAIN_STORY,
            "S\n<q>[User]\nQ<e><a>[Tom] to User\nA<e><q>[User]\nR<e><a>[Tom] to User\n",
            id="macros",
        ),
        pytest.param(
            {**MARKED, "input_sequence": "{{name}}", "macro": False},
            PLAIN_STORY,
            "S\n{{name}}Q<e>\n<a>A<e>\n{{name}}R<e>\n<a>",
            id="macros switched off",
        ),
        pytest.param(
            {
                **MARKED,
                "story_string_prefix": "<sys>",
                "story_string_suffix": "<e>\n",
                "wrap": True,
            },
            {"story_string": "{{system}}\n{{trim}}"},
            "<sys>\nS<e>\n<q>\nQ<e>\n<a>\nA<e>\n<q>\nR<e>\n<a>\n",
            id="a preset of 2025, with a prefix and suffix of the story string",
        ),
        pytest.param(
            {"input_sequence": "", "output_sequence": "", "wrap": True},
            PLAIN_STORY,
            "S\nQ\nA\nR\n",
            id="no sequences at all",
        ),
    ],
)
def test_the_prompt_is_sillytaverns(tmp_path, preset, context, text):
    assert written(tmp_path, preset, context, name="Tom") == text


@pytest.mark.parametrize(
    ("preset", "story", "words", "text"),
    [
        ({"wrap": True}, "{{system}}", "S", "S\n<q>\nQ<e>\n<a>\n"),
        ({"wrap": True}, "{{system}}", "S\n", "S\n<q>\nQ<e>\n<a>\n"),
        ({}, "<sys>{{system}}\n{{trim}}<e>\n", "S\n\n", "<sys>S<e>\n<q>Q<e>\n<a>"),
        ({}, "<sys>{{system}}<e>\n", "\nS\n", "<sys>\nS\n<e>\n<q>Q<e>\n<a>"),
        ({}, "{{system}}\n", "\n\nS", "S\n<q>Q<e>\n<a>"),
        (
            {"wrap": True, "story_string_suffix": "<end>\n"},
            "It says {{system}}.",
            "S",
            "It says S.<end>\n<q>\nQ<e>\n<a>\n",
        ),
    ],
)
def test_newlines_around_the_system_prompt(tmp_path, preset, story, words, text):
    messages = (Message("system", words), Q)
    context = {"story_string": story}
    assert written(tmp_path, {**MARKED, **preset}, context, messages) == text
    lost = imported(tmp_path, {**MARKED, **preset}, context).lost
    assert not any("white space" in sentence for sentence in lost)


def test_macros_of_the_preset_itself(tmp_path):
    preset = {**MARKED, "output_sequence": "{{instructInput}}|{{instructUserSuffix}}<a>"}
    context = {"story_string": "{{system}}{{instructAssistantSuffix}}"}
    assert written(tmp_path, preset, context, (S, Q)) == "S<e>\n<q>Q<e>\n<q>|<e>\n<a>"


def test_an_answer_that_begins_the_chat(tmp_path):
    preset = {**MARKED, "user_alignment_message": "Go on.", "first_output_sequence": "<a1>"}
    assert written(tmp_path, preset, PLAIN_STORY, (S, A, Q)) == (
        "S\n<q>Go on.<e>\n<a1>A<e>\n<q>Q<e>\n<a>"
    )
    assert written(tmp_path, preset, PLAIN_STORY, (S, Q)) == "S\n<q>Q<e>\n<a>"


@pytest.mark.parametrize(
    ("same", "text"), [(True, "<q>Q<e>\n<q>S<e>\n<a>"), (False, "<q>Q<e>\n<n>S</n><a>")]
)
def test_a_later_system_prompt_is_a_narrator(tmp_path, same, text):
    preset = {**MARKED, "system_sequence": "<n>", "system_suffix": "</n>"}
    preset["system_same_as_user"] = same
    assert written(tmp_path, preset, PLAIN_STORY, (Q, S)) == text


def test_without_a_system_prompt_the_story_string_is_still_written(tmp_path):
    context = {"story_string": "# {{char}}\n{{#if system}}{{system}}\n{{else}}none\n{{/if}}"}
    assert written(tmp_path, MARKED, context, (Q,)) == "# Assistant\nnone\n<q>Q<e>\n<a>"
    assert written(tmp_path, MARKED, context, (S, Q)) == "# Assistant\nS\n<q>Q<e>\n<a>"


def test_names_of_the_messages_are_written(tmp_path):
    messages = (Message("user", "Q", "Mara"), Message("assistant", "A", "Old Tom"))
    preset = {**MARKED, "names_behavior": "always"}
    assert written(tmp_path, preset, PLAIN_STORY, messages, prompt=False) == (
        "<q>Mara: Q<e>\n<a>Old Tom: A<e>\n"
    )


def test_what_is_trained(tmp_path):
    preset = {**MARKED, "last_output_sequence": "<a:>"}
    chat_format = imported(tmp_path, preset, PLAIN_STORY).format
    whole = render(Conversation("c", (S, Q, A, R, Message("assistant", "B"))), chat_format)
    trained = [whole.text[span.start : span.end] for span in whole.spans if span.trained]
    assert whole.text == "S\n<q>Q<e>\n<a>A<e>\n<q>R<e>\n<a:>B<e>\n"
    assert "".join(trained) == "A<e>B<e>"
    assert check_format(chat_format).findings == ()


def test_where_no_mark_ends_an_answer_the_next_header_is_trained(tmp_path):
    preset = {**TURNS, "wrap": True, "names_behavior": "always", "last_input_sequence": "<l>"}
    result = imported(tmp_path, preset, PLAIN_STORY)
    messages = (Q, A, R, Message("assistant", "B"), Q, Message("assistant", "C"))
    whole = render(Conversation("c", messages), result.format, eos_token="</s>")
    trained = [whole.text[span.start : span.end] for span in whole.spans if span.trained]
    assert whole.text == (
        "<q>\nUser: Q\n<a>\nAssistant: A\n<q>\nUser: R\n<a>\nAssistant: B\n<l>\nUser: Q\n<a>\n"
        "Assistant: C</s>"
    )
    assert "".join(trained) == " A\n<q>\nUser: B\n<l>\nUser: C</s>"
    assert result.format.stops[0] == "\n{user_name}:" and result.format.names == "prefix"
    assert any("nothing marks the end" in sentence for sentence in result.lost)


@pytest.mark.parametrize(
    ("preset", "context", "sentence"),
    [
        (MARKED | {"input_sequence": "<{{date}}>"}, PLAIN_STORY, "{{date}} has no fixed value"),
        (MARKED, {**PLAIN_STORY, "single_line": True}, "single_line"),
        (MARKED, {**PLAIN_STORY, "story_string_position": 1}, "story_string_position"),
        (MARKED | {"system_sequence": "<sys>"}, None, "no context preset"),
        (MARKED | {"last_output_sequence": "<l>"}, PLAIN_STORY, "last_output_sequence"),
        (MARKED | {"system_prompt": "Be kind."}, PLAIN_STORY, "own system prompt"),
        (MARKED, {"story_string": "A scene.\n"}, "has no {{system}}"),
        (
            {"instruct": MARKED, "context": PLAIN_STORY, "sysprompt": {"content": "Be kind."}},
            None,
            "export's system prompt",
        ),
    ],
)
def test_what_is_not_kept_is_said_at_import_and_detect(tmp_path, capsys, preset, context, sentence):
    from harness.cli.main import main

    assert any(sentence in lost for lost in imported(tmp_path, preset, context).lost)
    extra = ["--context", str(tmp_path / "context.json")] if context else []
    main(["formats", "detect", str(tmp_path / "preset.json"), *extra])
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    ("facts", "context", "message"),
    [
        ({"story_string": "{{system}}"}, None, "a SillyTavern context preset"),
        ({"name": "Kind", "content": "Be kind."}, None, "a SillyTavern system prompt"),
        (MARKED, {"name": "x"}, "no SillyTavern context preset"),
        (MARKED, {"story_string": "{{#each x}}{{/each}}"}, "{{#each x}}, which is not read"),
        (MARKED, {"story_string": "{{#if x}}y"}, "does not close"),
    ],
)
def test_what_is_no_instruct_preset_is_named(tmp_path, facts, context, message):
    with pytest.raises(HarnessError) as error:
        imported(tmp_path, facts, context)
    assert message in error.value.message


def test_a_preset_is_compared_without_the_first_bos(tmp_path):
    preset = {
        "input_sequence": "<|start_header_id|>user<|end_header_id|>\n\n",
        "output_sequence": "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "input_suffix": "<|eot_id|>",
        "output_suffix": "<|eot_id|>",
        "story_string_prefix": "<|start_header_id|>system<|end_header_id|>\n\n",
        "story_string_suffix": "<|eot_id|>",
    }
    (tmp_path / "p.json").write_text(json.dumps(preset))
    (tmp_path / "c.json").write_text(json.dumps({"story_string": "{{system}}"}))
    source = read_source(tmp_path / "p.json", tmp_path / "c.json")
    rows = rank_formats(source, [load_formats()["llama3"]])
    assert [(chat_format.id, same == total) for chat_format, same, total in rows] == [
        ("llama3", True)
    ]


@pytest.mark.parametrize(
    ("story", "text"),
    [
        ("{{#if a}}\n{{a}}\n{{/if}}\nend", "1\nend"),
        ("{{#if b}}\nx\n{{else}}\ny\n{{/if}}\n.", "y\n."),
        ("{{#unless b}}u{{/unless}}{{#unless a}}v{{/unless}}", "u"),
        ("x {{~#if a~}} {{a}} {{~/if~}} \n y", "x1y"),
        ("one\n{{! a note }}\ntwo{{!-- another }} --}}", "one\ntwo"),
        ("{{#if a}}{{#if b}}no{{else}}yes{{/if}}{{/if}} {{{a}}} {{other}}", "yes 1 <other>"),
    ],
)
def test_handlebars(story, text):
    assert fill_story(story, {"a": "1", "b": ""}, lambda name: f"<{name}>") == text


SEQUENCES = st.sampled_from(
    ["", "<u>", "<u>\n", "\n<u> ", "[{{name}}]", "{{user}}:", "{{char}}: ", "{{trim}}\n<z>", " "]
)
SUFFIXES = st.sampled_from(["", "<e>", "<e>\n", "\n\n", "</s>", " ", "{{name}} end\n"])
PRESETS = st.fixed_dictionaries(
    {
        **{
            f"{place}{role}_sequence": SEQUENCES
            for place in ("", "first_", "last_")
            for role in ("input", "output")
        },
        "input_suffix": SUFFIXES,
        "output_suffix": SUFFIXES,
        "wrap": st.booleans(),
        "macro": st.booleans(),
        "names_behavior": st.sampled_from(["none", "always"]),
    }
)
STORIES = st.sampled_from(
    ["{{system}}", "<sys>\n{{#if system}}{{system}}\n{{/if}}{{trim}}<e>", "{{char}}\n{{system}}\n"]
)


@given(PRESETS, STORIES, st.sampled_from(["", "***"]))
def test_any_preset_is_trained_as_it_is_asked(tmp_path_factory, preset, story, start):
    """The template equals the preset's own writing (import compares them), and what comes before
    the last answer is the prompt that SillyTavern sends.
    """
    context = {"story_string": story, "chat_start": start}
    chat_format = imported(tmp_path_factory.mktemp("preset"), preset, context).format
    for messages in ((Q, A), (S, Q, A), (S, Q, A, R, A), (A, Q, A)):
        asked = render(
            Conversation("c", messages[:-1]), chat_format, add_generation_prompt=True, eos_token="$"
        ).text
        whole = render(Conversation("c", messages), chat_format, eos_token="$")
        assert whole.text.startswith(asked)
        last = [span for span in whole.spans if span.message == len(messages) - 1]
        assert last[0].start == len(asked) and all(span.trained for span in last)


def test_detect_names_the_context_in_the_next_command(tmp_path, capsys):
    from harness.cli.main import main

    (tmp_path / "my preset.json").write_text(json.dumps({**MARKED, "output_suffix": "<of mine>"}))
    (tmp_path / "context.json").write_text(json.dumps(PLAIN_STORY))
    preset, context = str(tmp_path / "my preset.json"), str(tmp_path / "context.json")
    assert main(["formats", "detect", preset, "--context", context]) == 1
    assert f"import '{preset}' --context {context}" in capsys.readouterr().out
