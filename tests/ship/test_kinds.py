"""The names of differences at their edges, and what is compared."""

from __future__ import annotations

import pytest

from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.ship.checks.compare_runtime import with_trained_date
from harness.ship.checks.id_kinds import bos_kind, id_kinds
from harness.ship.checks.text_kinds import text_kind, window, without_bos
from harness.ship.checks.trained_texts import trained_texts
from tests.ship.artefacts import FORMATS, ROWS, tokenizer_of, trained_in

pytestmark = pytest.mark.local


def prompt_of(format_id="chatml", kind="bytes", at=1):
    return trained_in(format_id, kind).prompts[at]


def kind_of(change, format_id="chatml", kind="bytes", at=1):
    trained, prompt = trained_in(format_id, kind), prompt_of(format_id, kind, at)
    sent = change(prompt.rendered.text)
    return text_kind(prompt, sent, bos=trained.bos, stops=trained.stops)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda text: text, ""),
        (lambda text: text + " ", "spacing"),
        (lambda text: text.replace("\n", ""), "spacing"),
        (lambda text: text.replace('"of"', '\\"of\\"'), "escaped-json"),
        (lambda text: text.replace("é", "\\u00e9"), "escaped-json"),
        (lambda text: text.replace('"', "&quot;"), "escaped-json"),
        (lambda text: text.replace("{Sweden}", "{{Sweden}}"), "doubled-braces"),
        (lambda text: text.replace("assistant", "model"), "role-renamed"),
        (lambda text: text.replace("<|im_start|>user", "[user]"), "other-template"),
        (lambda text: text.replace("Norway", "Sweden"), "other-template"),
        (lambda text: text[: len(text) // 2], "truncated"),
        (lambda text: text.removesuffix("<|im_start|>assistant\n"), "generation-prompt-missing"),
        (lambda text: text + "<think>\n\n</think>\n\n", "other-generation-prompt"),
        (lambda text: "You are a helpful bot. " + text, "injected-system"),
        (lambda text: "<|im_start|>" + text, "other-template"),
        (lambda text: "<|endoftext|>" + text, ""),
        (lambda text: text.replace("<|im_end|>", ""), "missing-stop"),
        (lambda text: "", "truncated"),
    ],
)
def test_one_change_has_one_name(change, kind):
    assert kind_of(change) == kind


def test_two_changes_are_another_template():
    assert kind_of(lambda text: text.replace("{", "{{").replace("\n", " \n")) == "other-template"


def test_a_role_is_renamed_word_by_word():
    """A role of two words is another template, and words are counted, not aligned."""
    assert kind_of(lambda text: text.replace("assistant", "model")) == "role-renamed"
    assert kind_of(lambda text: text.replace("assistant", "the model")) == "other-template"
    assert kind_of(lambda text: text.replace("assistant", "#")) == "other-template"


def test_the_first_difference_is_shown():
    shown = window("a" * 40 + "b" + "c" * 60, "a" * 40 + "x")
    assert shown == f"trained …{'a' * 16 + 'b' + 'c' * 27!r}…, sent …{'a' * 16 + 'x'!r}"


def test_what_is_cut_off_is_marked():
    """28 characters from the difference on are shown; at the edges nothing is cut off."""
    assert window("ab", "xb") == "trained 'ab', sent 'xb'"
    assert window("x" + "a" * 27, "y" + "a" * 28) == (
        f"trained {'x' + 'a' * 27!r}, sent {'y' + 'a' * 27!r}…"
    )


@pytest.mark.parametrize(
    ("added", "kind"),
    [
        ("Hint ", "injected-system"),
        ("Be ok ", "injected-system"),
        ("Hey ", "other-template"),
        ("A b c ", "other-template"),
        ("<|think_off|>", "other-template"),
    ],
)
def test_words_before_the_first_question_are_a_system_prompt(added, kind):
    """A word of four letters or two of two; a mark or a letter is another template."""
    assert kind_of(lambda text: added + text) == kind


@pytest.mark.parametrize(
    ("times", "kind"), [(1, "escaped-json"), (2, "escaped-json"), (3, "other-template")]
)
def test_escapes_are_undone_twice(times, kind):
    def escaped(text):
        for _ in range(times):
            text = text.replace("\\", "\\\\").replace('"', '\\"')
        return text

    assert kind_of(escaped) == kind


def test_half_an_escape_of_an_emoji_is_no_letter():
    assert kind_of(lambda text: text.replace("é", "\\ud83d")) == "other-template"


@pytest.mark.parametrize(
    ("trained", "sent", "kind"),
    [(1, 2, "double-bos"), (0, 1, "unexpected-bos"), (1, 0, "missing-bos"), (2, 1, "missing-bos")],
)
def test_numbers_of_bos(trained, sent, kind):
    assert bos_kind(trained, sent) == kind
    assert without_bos("<s><s>x", "<s>") == ("x", 2) and without_bos("x", "") == ("x", 0)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda ids: ids, []),
        (lambda ids: (0, *ids), ["unexpected-bos"]),
        (lambda ids: (*ids, 2), ["added-eos"]),
        (lambda ids: ids[-9:], ["truncated"]),
        (lambda ids: ids[:9], ["truncated"]),
        (lambda ids: (*ids[:5], 7, *ids[5:]), ["other-tokenizer"]),
        (lambda ids: (0, *ids, 2), ["unexpected-bos", "added-eos"]),
    ],
)
def test_names_of_ids(change, kinds):
    assert id_kinds(trained_in("chatml"), prompt_of(), change(prompt_of().ids)) == kinds


def test_words_that_spell_a_control_token():
    """Training reads them as text, and the runtime as a control token."""
    row = Conversation("row", (Message("user", "Say <|im_end|>"), Message("assistant", "No.")))
    trained = trained_texts(FORMATS["chatml"], tokenizer_of("bytes"), [row])
    prompt = trained.prompts[0]
    sent = trained.tokenizer(prompt.rendered.text, add_special_tokens=False).input_ids
    assert id_kinds(trained, prompt, sent) == ["control-in-content"]


@pytest.mark.parametrize(
    ("format_id", "kind", "kinds"),
    [("plain-user", "bytes", []), ("chatglm3", "spaces", ["edge-merged"])],
)
def test_marks_that_this_tokenizer_joins(format_id, kind, kinds):
    """An answer is followed by a mark that is no token, which this tokenizer may join with it."""
    row = Conversation(
        "row",
        (
            Message("user", "One"),
            Message("assistant", " the"),
            Message("user", "Two"),
            Message("assistant", "x"),
        ),
    )
    trained = trained_texts(FORMATS[format_id], tokenizer_of(kind), [row])
    prompt = trained.prompts[1]
    sent = trained.tokenizer(prompt.rendered.text, add_special_tokens=False).input_ids
    assert id_kinds(trained, prompt, sent) == kinds


def test_what_is_compared_is_counted():
    tokenizer, chat_format = tokenizer_of("bytes"), FORMATS["chatml"]
    assert trained_texts(chat_format, tokenizer).scope == "8 prompts of standard shapes"
    some = trained_texts(chat_format, tokenizer, ROWS, most=3)
    assert some.scope == (
        "3 prompts of 2 rows and 8 prompts of standard shapes; left out: 1 more prompt"
    )
    later = Conversation(
        "row", (Message("user", "a"), Message("system", "b"), Message("user", "c"))
    )
    odd = [*ROWS, Conversation("x", (*later.messages, Message("assistant", "d")))]
    strict = trained_texts(FORMATS["llama2-chat"], tokenizer, odd)
    assert "left out: 1 row that the format cannot render" in strict.scope
    untrained = Conversation("row", (Message("user", "a"), Message("assistant", "b", weight=0)))
    none = trained_texts(chat_format, tokenizer, [untrained])
    assert none.scope.startswith("0 prompts of 1 row")
    with pytest.raises(HarnessError, match="no EOS"):
        bare = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer)
        trained_texts(chat_format, bare, ROWS)


def test_the_end_of_an_answer_is_known():
    assert trained_in("chatml").tails == ("<|im_end|>",)
    assert trained_in("chatml").tokens_of("<|im_end|>\n") == {"<|im_end|>": 2}
    tails = trained_in("harmony", "marks").tails
    assert tails == ("<|return|>", "<|call|>"), "<|end|> ends a thought too, and no generation"
    assert trained_in("dolly-v2").tokens_of("### End") == {}


def test_a_date_is_taken_for_the_trained_one():
    from datetime import datetime

    from harness.formats.tracing import FROZEN_NOW

    today = datetime.now().strftime("%d %b %Y")
    assert with_trained_date(f"Today is {today}.") == f"Today is {FROZEN_NOW:%d %b %Y}."
    assert with_trained_date("Today is 1 Jan 1999.") == "Today is 1 Jan 1999."
