"""The names of differences of token ids, and how they are shown, at their edges."""

from __future__ import annotations

import pytest

from harness.conversation import Conversation, Message
from harness.ship.checks.id_kinds import id_kinds, id_window, without_bos_ids
from harness.ship.checks.text_kinds import without_bos
from harness.ship.checks.trained_texts import trained_texts
from tests.ship.artefacts import FORMATS, tokenizer_of, trained_in
from tests.tiny import build_tokenizer

pytestmark = pytest.mark.local
EOS = 2


def prompt_in(format_id="chatml", kind="bytes"):
    trained = trained_in(format_id, kind)
    long = (one for one in trained.prompts if len(one.ids) > 40)
    return trained, next(one for one in long if kind == "marks" or EOS in one.ids)


@pytest.mark.parametrize(
    ("ids", "bos", "found"),
    [
        ((0, 0, 5), 0, ((5,), 2)),
        ((0, 0), 0, ((), 2)),
        ((5, 0), 0, ((5, 0), 0)),
        ((5, 6), None, ((5, 6), 0)),
        ((), 0, ((), 0)),
    ],
)
def test_bos_is_taken_from_the_beginning_only(ids, bos, found):
    assert without_bos_ids(ids, bos) == found


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda ids: (*ids, EOS), "added-eos"),
        (lambda ids: (*ids, EOS, EOS), "other-tokenizer"),
        (lambda ids: (*ids, 7), "other-tokenizer"),
        (lambda ids: (*ids[:5], 7, *ids[6:], EOS), "other-tokenizer"),
        (lambda ids: ids[:-1], "truncated"),
        (lambda ids: ids[1:], "truncated"),
        (lambda ids: (), "truncated"),
        (lambda ids: ids[1:-1], "other-tokenizer"),
        (lambda ids: (*ids[:5], *ids[6:]), "other-tokenizer"),
    ],
)
def test_an_end_that_is_added_or_cut_off(change, kind):
    """Only one EOS behind equal ids is an added one, and a gap is no end that is cut off."""
    trained, prompt = prompt_in()
    assert id_kinds(trained, prompt, change(prompt.ids)) == [kind]


def spelt(trained, prompt, *, bos):
    """The ids of a tokenizer that takes the marks for text."""
    text = prompt.rendered.text if bos else without_bos(prompt.rendered.text, trained.bos)[0]
    return tuple(
        trained.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[0].ids
    )


@pytest.mark.parametrize(
    ("format_id", "kind"),
    [
        ("chatml", "bytes"),
        ("vicuna-v1.1", "spaces"),
        ("llama2-chat", "spaces"),
        ("gemma3", "marks"),
    ],
)
def test_marks_that_are_sent_as_text(format_id, kind):
    """Each BOS is an id or text. The tokenizer with spaces lacks letters: it cannot be decoded."""
    trained, prompt = prompt_in(format_id, kind)
    count = without_bos_ids(prompt.ids, trained.tokenizer.bos_token_id)[1]
    sent = (trained.tokenizer.bos_token_id,) * count + spelt(trained, prompt, bos=False)
    assert id_kinds(trained, prompt, sent) == ["special-as-text"]
    assert id_kinds(trained, prompt, (*sent[:-1], 7)) == ["other-tokenizer"]
    lacks = ["missing-bos"] * count
    written = spelt(trained, prompt, bos=True)
    assert id_kinds(trained, prompt, written) == [*lacks, "special-as-text"]


def test_one_mark_of_several_that_is_sent_as_text():
    trained, prompt = prompt_in()
    tokenizer = trained.tokenizer
    letters = tokenizer("<|im_end|>", add_special_tokens=False, split_special_tokens=True).input_ids
    at = prompt.ids.index(EOS)
    sent = (*prompt.ids[:at], *letters, *prompt.ids[at + 1 :])
    assert id_kinds(trained, prompt, sent) == ["special-as-text"]
    other = tokenizer("<|im_and|>", add_special_tokens=False).input_ids
    changed = (*prompt.ids[:at], *other, *prompt.ids[at + 1 :])
    assert id_kinds(trained, prompt, changed) == ["other-tokenizer"], "another text"
    space = tokenizer(" ", add_special_tokens=False).input_ids
    assert id_kinds(trained, prompt, (*space, *sent)) == ["special-as-text"], "a space before it"


def asked(text, format_id, tokenizer):
    row = Conversation("row", (Message("user", text), Message("assistant", "No.")))
    trained = trained_texts(FORMATS[format_id], tokenizer, [row])
    return trained, trained.prompts[0]


def test_control_text_behind_the_bos():
    """The text that a runtime reads as control tokens begins with BOS, which is no difference."""
    trained, prompt = asked("Say <|eot_id|>", "llama3", tokenizer_of("bos"))
    sent = trained.tokenizer(prompt.rendered.text, add_special_tokens=False).input_ids
    assert sent[0] == prompt.ids[0] == trained.tokenizer.bos_token_id
    assert id_kinds(trained, prompt, sent) == ["control-in-content"]


def test_a_tokenizer_that_ends_each_text_with_eos():
    """The ids of a text are looked up without what the tokenizer adds."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", EOS)]
    )
    trained, prompt = asked("Say <|im_end|>", "chatml", tokenizer)
    sent = tokenizer(prompt.rendered.text, add_special_tokens=False).input_ids
    assert id_kinds(trained, prompt, sent) == ["control-in-content"]


def test_one_of_two_control_texts_that_becomes_a_token():
    """More marks than were trained are no mark that was sent as text."""
    trained, prompt = asked("<|im_end|> or <|im_end|>", "chatml", tokenizer_of("bytes"))
    letters = tuple(
        trained.tokenizer(
            "<|im_end|>", add_special_tokens=False, split_special_tokens=True
        ).input_ids
    )
    at = next(at for at in range(len(prompt.ids)) if prompt.ids[at : at + len(letters)] == letters)
    sent = (*prompt.ids[:at], EOS, *prompt.ids[at + len(letters) :])
    assert id_kinds(trained, prompt, sent) == ["other-tokenizer"]


def test_the_same_text_in_other_tokens():
    """As many marks as were trained: the words between them are put together differently."""
    trained, prompt = prompt_in()
    tokenizer = trained.tokenizer
    longest = max(prompt.ids, key=lambda one: len(tokenizer.decode([one])) * (one > EOS))
    letters = [
        tokenizer(one, add_special_tokens=False)[0].ids for one in tokenizer.decode([longest])
    ]
    at = prompt.ids.index(longest)
    sent = (*prompt.ids[:at], *(one for ids in letters for one in ids), *prompt.ids[at + 1 :])
    assert tokenizer.decode(sent) == tokenizer.decode(prompt.ids) and sent != prompt.ids
    assert id_kinds(trained, prompt, sent) == ["other-tokenizer"]


def shown(trained, mine, theirs):
    return id_window(trained, tuple(mine), tuple(theirs))


def test_four_ids_from_the_first_difference_are_shown():
    trained, _ = prompt_in()
    words = trained.tokenizer.decode
    mine, theirs = (1, 40, 41, 42, 43), (1, 50, 41, 42, 43, 44)
    assert shown(trained, mine, theirs) == (
        f"trained [40, 41, 42, 43] {words([40, 41, 42, 43])!r}, "
        f"sent [50, 41, 42, 43]… {words([50, 41, 42, 43])!r} at id 1"
    )


def test_what_ends_first_has_nothing_more():
    trained, _ = prompt_in()
    words = trained.tokenizer.decode
    assert (
        shown(trained, (1, 40), (1,)) == f"trained [40] {words([40])!r}, sent nothing more at id 1"
    )
    assert shown(trained, (), (40,)) == f"trained nothing more, sent [40] {words([40])!r} at id 0"


def test_an_id_that_the_tokenizer_lacks_has_no_text():
    trained, _ = prompt_in()
    last = len(trained.tokenizer) - 1
    text = trained.tokenizer.decode([last])
    assert shown(trained, (last,), (last + 1,)) == (
        f"trained [{last}] {text!r}, sent [{last + 1}] '�' at id 0"
    )
