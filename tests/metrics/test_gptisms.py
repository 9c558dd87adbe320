import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.phrases import find, lift, rate
from tests.metrics.sentences import ENGLISH


def kinds(text: str) -> list[str]:
    return [hit.kind for hit in find(text)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I'm just an AI, so no.", "identity"),
        ("I am a large language model.", "identity"),
        ("As an AI developed by OpenAI, I cannot say.", "identity"),
        ("I was created by a team at Anthropic.", "identity"),
        ("I’m ChatGPT.", "identity"),
        ("My knowledge cutoff is 2023.", "identity"),
        ("I don't have personal opinions.", "disclaimer"),
        ("I'm sorry, but I can't do that.", "disclaimer"),
        ("Please consult a qualified professional.", "disclaimer"),
        ("It is important to note that water is wet.", "disclaimer"),
        ("Certainly! Oslo.", "opening"),
        ("**Sure**, here it is", "opening"),
        ("Great question! Oslo.", "opening"),
        ("I'd be happy to help.", "opening"),
        ("Oslo. I hope this helps!", "closing"),
        ("Oslo. Let me know if you have questions.", "closing"),
        ("Let us delve into the matter.", "slop"),
        ("a rich tapestry of cultures", "slop"),
        ("Her voice was barely above a whisper.", "slop"),
        ("It sent shivers down her spine.", "slop"),
    ],
)
def test_canned_phrases(text: str, kind: str) -> None:
    assert kind in kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "As an AI researcher, Anna reads a lot.",
        "She said she was made by hand in Google's old office.",
        "He was sure, and of course right.",
        "Claude painted water lilies. I am Claudia.",
        "Make sure to salt the water.",
        "I hope this rain stops.",
        *ENGLISH,
    ],
)
def test_ordinary_text_has_none(text: str) -> None:
    assert find(text) == ()


def test_openings_and_closings_count_in_their_place() -> None:
    assert kinds("Oslo. Certainly! Yes.") == []
    assert kinds("I hope this helps. " + "Plain words follow here. " * 60) == []


@given(st.text(), st.sampled_from(["As an AI, I agree.", "I’m an AI.", "delve into"]))
def test_a_hit_is_where_it_says(text: str, phrase: str) -> None:
    whole = f"{text} {phrase}"
    assert find(whole)
    assert all(whole[hit.start : hit.end] == hit.text for hit in find(whole))


def test_rate_is_per_thousand_words() -> None:
    assert rate([]) is None
    assert rate(["one two three"]) == 0.0
    assert rate(["I'm an AI now", "six more words without a hit"]) == pytest.approx(100.0)
    assert rate(["I'm an AI now", "six more words without a hit"], ("slop",)) == 0.0


def test_lift_tells_inherited_bias() -> None:
    tuned = ["Certainly! Oslo.", "Certainly! Rome.", "It is Bern."]
    trained = ["It is Oslo.", "It is Rome.", "Certainly, Bern."]
    by_name = {item.name: item for item in lift(tuned, trained)}
    assert by_name["certainly"].hits == 2
    assert by_name["certainly"].lift == pytest.approx((2.5 / 7) / (1.5 / 8))
    assert not by_name["certainly"].new
    assert {item.name: item.new for item in lift(tuned, ["plain words"])}["opening"]
    assert lift(tuned, []) == ()


def test_hostile_texts(hostile: str) -> None:
    assert all(hit.kind for hit in find(hostile))
