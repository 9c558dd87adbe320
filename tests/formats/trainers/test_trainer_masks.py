"""The masking rules of TRL, axolotl and unsloth: planted faults are named, and a control is clean.

The rules are compared with the trainers themselves in tests/peers/test_trainers.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.formats.render import render
from harness.formats.trainers.axolotl import AxolotlSettings, axolotl_mask
from harness.formats.trainers.differences import KINDS, differences
from harness.formats.trainers.trainer_mask import (
    TrainerMask,
    guarded_template,
    joined,
    row_of,
    split_pieces,
)
from harness.formats.trainers.trl import TrlSettings, trl_mask
from harness.formats.trainers.unsloth import UnslothSettings, unsloth_markers, unsloth_mask

TALK = Conversation(
    "talk",
    (
        Message("system", "Be kind."),
        Message("user", "Name a gem."),
        Message("assistant", "Opal."),
        Message("user", "And a bee."),
        Message("assistant", "A mason bee."),
    ),
)
ROW = row_of(TALK)
CHATML = load_formats()["smollm2"]
#: ChatML as most models ship it: nothing says what the assistant writes.
BARE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: The stop is written outside the generation block.
NO_STOP = BARE.replace(
    "message['content'] + '<|im_end|>\n' }}",
    "'' }}{% if message.role == 'assistant' %}{% generation %}{{ message.content }}"
    "{% endgeneration %}{% else %}{{ message.content }}{% endif %}{{ '<|im_end|>\n' }}",
)


def template(source=CHATML.template, eos="<|im_end|>", **facts):
    marks = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    return guarded_template(source, eos_token=eos, special=marks, **facts)


def kinds(mask, ours=None, talk=TALK, bos=""):
    ours = ours or render(talk, CHATML)
    found = {each.kind for each in differences(mask, ours, talk.messages, bos)}
    assert found <= KINDS.keys()  # the printed counts explain each
    return found


def trained(mask):
    return [mask.text[start:end] for start, end in mask.trained]


class TestTrl:
    def test_everything_is_trained_unless_asked_otherwise(self):
        mask = trl_mask(template(BARE), ROW)
        assert trained(mask) == [render(TALK, CHATML).text]
        assert kinds(mask) == {"trains a header", "trains a question"}

    def test_assistant_only_loss_trains_the_generation_blocks(self):
        mask = trl_mask(template(), ROW, TrlSettings(assistant_only_loss=True))
        assert trained(mask) == ["Opal.<|im_end|>", "A mason bee.<|im_end|>"]
        assert kinds(mask) == set()

    def test_a_template_without_a_block_ends_the_run(self):
        mask = trl_mask(template(BARE), ROW, TrlSettings(assistant_only_loss=True))
        assert "generation" in mask.error and kinds(mask) == {"ends"}

    def test_a_stop_outside_the_block_is_missed(self):
        mask = trl_mask(template(NO_STOP), ROW, TrlSettings(assistant_only_loss=True))
        assert kinds(mask) == {"misses the stop"}

    def test_max_length_cuts_the_last_answer(self):
        settings = TrlSettings(assistant_only_loss=True)
        whole = trl_mask(template(), ROW, settings).tokens
        last_word = trl_mask(template(), ROW, replace(settings, max_length=whole - 4))
        assert kinds(last_word) == {"truncates an answer"}
        assert kinds(trl_mask(template(), ROW, replace(settings, max_length=whole))) == set()
        nothing = trl_mask(template(), ROW, replace(settings, max_length=5))
        assert kinds(nothing) == {"leaves the row out"}

    def test_only_bfd_packing_truncates_a_row(self):
        settings = TrlSettings(assistant_only_loss=True, max_length=30, packing=True)
        assert kinds(trl_mask(template(), ROW, settings)) == {"truncates an answer"}
        split = trl_mask(template(), ROW, replace(settings, packing_strategy="bfd_split"))
        assert kinds(split) == set() and not split.notes
        wrapped = trl_mask(template(), ROW, replace(settings, packing_strategy="wrapped"))
        assert kinds(wrapped) == set() and "blocks of 30 tokens" in wrapped.notes[0]

    def test_a_completion_is_what_differs_from_the_prompt(self):
        row = {"prompt": ROW["messages"][:-1], "completion": ROW["messages"][-1:]}
        mask = trl_mask(template(BARE), row)
        assert trained(mask) == ["A mason bee.<|im_end|>\n"]
        assert kinds(mask) == {"misses an answer", "misses the stop"}  # the first answer's
        every = trl_mask(template(BARE), row, TrlSettings(completion_only_loss=False))
        assert "trains a header" in kinds(every)

    def test_a_rendered_text_gets_a_second_bos(self):
        text = "<s>" + render(TALK, CHATML).text
        facts = {"bos_token": "<s>", "eos": "<|im_end|>"}
        mask = trl_mask(template(adds_bos=True, **facts), {"text": text})
        assert mask.text.startswith("<s><s>") and mask.text.endswith("<|im_end|>\n<|im_end|>")
        assert "double BOS" in kinds(mask, bos="<s>")
        once = trl_mask(template(**facts), {"text": text})
        assert "double BOS" not in kinds(once, bos="<s>")

    def test_turns_of_from_and_value_are_converted(self):
        turns = [
            {"from": {"user": "human", "assistant": "gpt"}.get(m.role, m.role), "value": m.content}
            for m in TALK.messages
        ]
        assert trl_mask(template(), {"conversations": turns}) == trl_mask(template(), ROW)

    def test_a_row_of_other_columns_is_named(self):
        assert "no column messages" in trl_mask(template(), {"body": "x"}).error


class TestAxolotl:
    def test_answers_and_their_eos_are_trained(self):
        mask = axolotl_mask(template(BARE), ROW)
        assert trained(mask) == ["Opal.<|im_end|>", "A mason bee.<|im_end|>"]
        assert kinds(mask) == set() and not mask.notes

    def test_an_end_of_turn_that_is_not_the_eos_is_missed(self):
        mask = axolotl_mask(template(BARE, eos="<|endoftext|>"), ROW)
        assert kinds(mask) == {"misses the stop"}
        assert mask.notes == ("'<|endoftext|>' is not in the template: it ends no turn",)
        named = AxolotlSettings(eot_tokens=("<|im_end|>",))
        assert kinds(axolotl_mask(template(BARE, eos="<|endoftext|>"), ROW, named)) == set()

    @pytest.mark.parametrize(("rule", "stops"), [("turn", 2), ("last", 1), ("none", 0), ("all", 5)])
    def test_train_on_eos(self, rule, stops):
        mask = axolotl_mask(template(BARE), ROW, AxolotlSettings(train_on_eos=rule))
        assert "".join(trained(mask)).count("<|im_end|>") == stops

    def test_roles_and_inputs(self):
        every = axolotl_mask(template(BARE), ROW, AxolotlSettings(train_on_inputs=True))
        assert kinds(every) == {"trains a question", "trains a header"}  # the question's end too
        human = axolotl_mask(template(BARE), ROW, AxolotlSettings(roles_to_train=("human",)))
        assert trained(human) == ["Name a gem.<|im_end|>", "And a bee.<|im_end|>"]

    def test_other_names_of_fields(self):
        turns = [
            {"from": m.role, "value": m.content, "loss": m.role == "user"} for m in TALK.messages
        ]
        names = {"role": "from", "content": "value"}
        settings = AxolotlSettings(field_messages="turns", message_property_mappings=names)
        mask = axolotl_mask(template(BARE), {"turns": turns}, settings)
        assert kinds(mask) == set()
        marked = replace(settings, message_field_training="loss")
        assert trained(axolotl_mask(template(BARE), {"turns": turns}, marked))[0].startswith("Name")
        assert kinds(axolotl_mask(template(BARE), ROW, settings)) == {"ends"}

    def test_a_row_that_is_too_long_is_left_out_or_cut(self):
        drop = AxolotlSettings(sequence_len=20)
        assert kinds(axolotl_mask(template(BARE), ROW, drop)) == {"leaves the row out"}
        cut = replace(drop, excess_length_strategy="truncate")
        assert kinds(axolotl_mask(template(BARE), ROW, cut)) == {"truncates an answer"}

    def test_an_answer_whose_edges_are_the_placeholders_is_whole(self):
        for words in ("(q", "q)", "((placeholder))x", "xqqplaceholderqq"):
            talk = Conversation("x", (Message("user", "Go."), Message("assistant", words)))
            mask = axolotl_mask(template(BARE), row_of(talk))
            assert trained(mask) == [words + "<|im_end|>"]

    def test_a_thought_is_split_from_the_words(self):
        source = BARE.replace(
            "message['content']",
            "(('<think>' + message.reasoning_content + '</think>') if message.reasoning_content"
            " else '') + message['content']",
        )
        answer = {"role": "assistant", "content": "<think> Hard. </think>\n\nOpal."}
        row = {"messages": [ROW["messages"][1], answer]}
        mask = axolotl_mask(template(source), row, AxolotlSettings(split_thinking=True))
        assert trained(mask) == ["<think>Hard.</think>Opal.<|im_end|>"]


class TestUnsloth:
    def test_the_markers_are_found_in_the_template(self):
        markers = ("<|im_start|>user\n", "<|im_start|>assistant\n")
        assert unsloth_markers(template(BARE)) == markers
        mask = unsloth_mask(template(BARE), ROW)
        assert trained(mask) == ["Opal.<|im_end|>", "A mason bee.<|im_end|>"]
        assert kinds(mask) == set()

    def test_a_marker_of_another_template_trains_nothing(self):
        settings = UnslothSettings("[INST]", "[/INST]")
        mask = unsloth_mask(template(BARE), ROW, settings)
        assert kinds(mask) == {"misses an answer", "misses the stop"}

    def test_a_header_behind_an_answer_is_trained_where_nothing_ends_it(self):
        source = BARE.replace("<|im_start|>' + message['role']", "### ' + message['role']")
        source = source.replace("<|im_end|>\n' }}{% endfor", "\n' }}{% endfor")
        source = source.replace("<|im_start|>assistant", "### assistant")
        talk = replace(
            TALK, messages=(*TALK.messages[:3], Message("system", "Hush."), *TALK.messages[3:])
        )
        settings = UnslothSettings("### user\n", "### assistant\n")
        mask = unsloth_mask(template(source), row_of(talk), settings)
        ours = render(talk, replace(CHATML, id="hash", template=HASH))
        assert ours.text == mask.text
        assert {"trains a header", "trains a question"} <= kinds(mask, ours, talk)

    def test_only_the_last_response_and_tokens_masked_out(self):
        last = UnslothSettings(last_response_only=True)
        assert trained(unsloth_mask(template(BARE), ROW, last)) == ["A mason bee.<|im_end|>"]
        out = UnslothSettings(mask_out_tokens=("<|im_end|>",))
        assert kinds(unsloth_mask(template(BARE), ROW, out)) == {"misses the stop"}

    def test_without_the_call_everything_is_trained(self):
        mask = unsloth_mask(template(BARE), ROW, UnslothSettings(train_on_responses_only=False))
        assert "trains a header" in kinds(mask)

    def test_one_marker_alone_ends_the_run(self):
        assert kinds(unsloth_mask(template(BARE), ROW, UnslothSettings("x"))) == {"ends"}


HASH = (
    "{% for message in messages %}{{ '### ' + message.role + '\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + '\n' }}"
    "{% endgeneration %}{% else %}{{ message.content + '\n' }}{% endif %}{% endfor %}"
)


def test_a_tool_result_is_named():
    messages = (
        Message("user", "Weigh it."),
        Message("assistant", "One moment."),
        Message("tool", "2 kg"),
    )
    talk = Conversation("t", (*messages, Message("assistant", "2 kg.")))
    ours_format = replace(CHATML, id="hash", template=HASH, tools="own")
    mask = trl_mask(template(HASH), row_of(talk))
    assert "trains a tool result" in kinds(mask, render(talk, ours_format), talk)
    only = trl_mask(template(HASH), row_of(talk), TrlSettings(assistant_only_loss=True))
    assert kinds(only, render(talk, ours_format), talk) == set()


def test_an_answer_of_weight_0_is_named():
    talk = replace(
        TALK,
        messages=(
            *TALK.messages[:2],
            Message("assistant", "Opal.", weight=0.0),
            *TALK.messages[3:],
        ),
    )
    assert kinds(axolotl_mask(template(BARE), ROW), render(talk, CHATML), talk) == {
        "trains an answer of weight 0"
    }


def test_a_template_that_raises_is_an_end_and_no_crash():
    source = "{{ raise_exception('no system prompts here') }}"
    for mask in (trl_mask, axolotl_mask, unsloth_mask):
        assert "no system prompts here" in mask(template(source), ROW).error


def test_spans_are_joined_and_counted_without_white_space():
    assert joined([(5, 7), (0, 2), (2, 3), (9, 9)]) == ((0, 3), (5, 7))
    mask = TrainerMask("ab c\nd", ((0, 6),))
    assert mask.trains(0, 6) == 4 and mask.trains(2, 3) == 0 and mask.trains(0, 1) == 1


def test_pieces_cover_the_text():
    text = "<|im_start|>user\nÄ b<custom>[INST] x"
    pieces = split_pieces(["<custom>"])(text)
    assert "".join(text[p.start : p.end] for p in pieces) == text
    assert "<custom>" in [text[p.start : p.end] for p in pieces]
