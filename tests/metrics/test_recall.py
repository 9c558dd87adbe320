import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.metrics.copies.fingerprints import Postings, gram_hashes
from harness.metrics.copies.recall_index import RecallIndex
from harness.metrics.recall import diverge_at, near, ngram_score, nv_recall
from tests.metrics.cost import computes_within
from tests.metrics.sentences import ENGLISH, OTHER_SCRIPTS

VOWELS = "aeiou"


def made_up(seed: int, n: int = 120) -> str:
    """Text of words that nobody has written before."""
    rng = random.Random(seed)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in VOWELS]
    return " ".join("".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(n))


def swap_words(text: str, share: float, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join("other" if rng.random() < share else word for word in text.split())


def edit_letters(text: str, share: float, seed: int) -> str:
    rng = random.Random(seed)
    return "".join(
        rng.choice("xyz") if rng.random() < share and letter != " " else letter for letter in text
    )


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_sequences_agree_up_to_where_they_diverge(a: list[int], b: list[int]) -> None:
    at = diverge_at(a, b)
    assert a[:at] == b[:at]
    assert at == min(len(a), len(b)) or a[at] != b[at]


def test_near() -> None:
    text = ENGLISH[0]
    assert near(text.upper() + "  \n", text) == 1.0
    assert near(text + ENGLISH[1], text) == 1.0
    assert near(edit_letters(text, 0.05, 1), text) > 0.9
    assert near(ENGLISH[1], text) < 0.6
    assert near("The", text) < 0.1
    assert near("", "") == 0.0
    assert near("", text) == 0.0


@given(st.text(), st.text())
def test_near_is_a_share(a: str, b: str) -> None:
    assert 0.0 <= near(a, b) <= 1.0


def test_near_verbatim_recall_of_whole_and_half() -> None:
    assert nv_recall(ENGLISH[0], ENGLISH[0]).value == 1.0
    half = " ".join(ENGLISH[0].split()[:30])
    assert nv_recall("Well. " + half + " And so on.", ENGLISH[0]).value == pytest.approx(
        30 / 61, abs=0.02
    )
    assert nv_recall(ENGLISH[1], ENGLISH[0]).value == 0.0
    assert nv_recall("", ENGLISH[0]).value == 0.0
    assert nv_recall(ENGLISH[0], "").value == 0.0


def test_a_span_says_where_it_stands_in_both() -> None:
    part = "keep boats ready, move their animals to higher ground and wait. Nobody complains, because the water brings good soil to the fields"
    answer = f"He SAID:  {part.upper()}; then left."
    (span,) = nv_recall(answer, ENGLISH[0]).spans
    assert answer[span.answer_start : span.answer_end] == part.upper()
    assert ENGLISH[0][span.reference_start : span.reference_end] == part
    assert span.words == span.longest == len(part.split())


def test_neighbours_merge_over_small_gaps_only() -> None:
    words = made_up(1, 60).split()
    one_gap = [*words[:15], "x", "y", *words[17:32], *made_up(2, 40).split()]
    (span,) = nv_recall(" ".join(one_gap), " ".join(words)).spans
    assert (span.words, span.longest) == (30, 15)
    wide_gap = [*words[:15], *"abcd", *words[19:34]]
    assert nv_recall(" ".join(wide_gap), " ".join(words)).spans == ()
    drifted = [*words[:15], *words[17:32]]
    assert nv_recall(" ".join(drifted), " ".join(words)).spans == ()


def test_swapped_words_do_not_hide_a_copy() -> None:
    text = made_up(3)
    assert nv_recall(swap_words(text, 0.1, 1), text).value > 0.8


def test_chinese_is_counted_in_characters() -> None:
    text = OTHER_SCRIPTS["zh"]
    found = nv_recall("他说：" + text, text)
    assert found.value == 1.0
    assert found.spans[0].words == 18


def test_short_references_need_half() -> None:
    assert nv_recall("the old grey cat slept", "the old grey cat sat down there now").value == 0.5
    assert nv_recall("the old dog", "the old grey cat sat down there now").value == 0.0


@given(st.text(), st.text())
def test_recall_is_a_share(a: str, b: str) -> None:
    found = nv_recall(a, b)
    assert 0.0 <= found.value <= 1.0
    assert all(0 <= s.answer_start < s.answer_end <= len(a) for s in found.spans)


def test_the_n_gram_score_is_the_share_of_a_rows_grams() -> None:
    text = "one two three four five six seven eight"
    assert ngram_score(f"So: {text.upper()}!", text) == 1.0
    assert ngram_score("two three four five six", text) == 0.25
    assert ngram_score("one two three four", text) == 0.0
    assert ngram_score("It is Oslo, I think.", "Oslo.") == 1.0  # shorter than five words: one gram
    assert ngram_score("anything", "…") is None
    assert ngram_score("", text) == 0.0


@given(st.text(), st.text())
def test_the_n_gram_score_is_a_share(a: str, b: str) -> None:
    score = ngram_score(a, b)
    assert score is None or 0.0 <= score <= 1.0


TEXTS = [(f"t{seed}", made_up(seed)) for seed in range(60)]
INDEX = RecallIndex.build(TEXTS)


def test_the_index_names_the_source_and_the_place() -> None:
    source = TEXTS[7][1]
    part = " ".join(source.split()[40:75])
    answer = f"{ENGLISH[1]} {part} {ENGLISH[2]}"
    hit = INDEX.query(answer)
    assert hit.source == "t7"
    assert hit.span is not None
    assert hit.source_span is not None
    assert answer[slice(*hit.span)] == part
    assert source[slice(*hit.source_span)] == part
    assert (hit.span_words, hit.block_words, hit.span_chars) == (35, 35, len(part))
    assert hit.flags == ("span", "block")
    assert hit.near
    assert hit.misplaced("t3")
    assert not hit.misplaced("t7")
    assert 0.15 < hit.copied_frac < 0.35
    assert hit.nv_recall == pytest.approx(35 / 120)


def test_a_whole_copy_with_edits() -> None:
    hit = INDEX.query(edit_letters(TEXTS[9][1], 0.03, 5))
    assert hit.source == "t9"
    assert "indel" in hit.flags


def test_nothing_is_found_in_unrelated_text() -> None:
    for text in (*ENGLISH, made_up(999), "", "short"):
        hit = INDEX.query(text)
        assert not hit.near
        assert hit.copied_frac == 0.0
        assert not hit.misplaced("t0")


def test_spans_are_found_through_edits_and_swaps() -> None:
    """200 characters of a source inside an unrelated answer, 5 % of them edited, or a fifth of the
    words replaced.
    """
    found = {"edits": 0, "swaps": 0}
    for seed in range(60):
        part = TEXTS[seed][1][200:400]
        for name, copy in (
            ("edits", edit_letters(part, 0.05, seed)),
            ("swaps", swap_words(part, 0.2, seed)),
        ):
            answer = f"{ENGLISH[seed % 4]} {copy} {ENGLISH[(seed + 1) % 4]}"
            found[name] += INDEX.query(answer).source == f"t{seed}"
    assert found["edits"] >= 58
    assert found["swaps"] >= 58


def test_of_equal_sources_the_own_one_wins() -> None:
    index = RecallIndex.build([("a", ENGLISH[0]), ("b", ENGLISH[0]), ("c", ENGLISH[1])])
    assert index.query(ENGLISH[0], own="b").source == "b"
    assert index.query(ENGLISH[0]).source == "a"


def test_boilerplate_of_many_documents_is_dropped() -> None:
    boiler = "This sentence stands at the end of every single answer in the set."
    index = RecallIndex.build([(str(n), f"{made_up(n, 40)} {boiler}") for n in range(2100)])
    assert not index.query(f"{ENGLISH[0]} {boiler}").near
    assert index.query(made_up(17, 40)).source == "17"


def test_a_long_text_is_found_in_all_its_parts() -> None:
    long = made_up(5, 9000)
    index = RecallIndex.build([("short", ENGLISH[0]), ("long", long)])
    words = long.split()
    for at in (0, 3000, 6000, 8950):
        part = " ".join(words[at : at + 40])
        hit = index.query(f"{ENGLISH[2]} {part}")
        assert (hit.source, hit.span_words) == ("long", 40)
        assert hit.source_span is not None
        assert long[slice(*hit.source_span)] == part


def test_an_empty_index() -> None:
    assert RecallIndex.build([]).query("anything at all").source is None
    assert RecallIndex.build([("a", "")]).query("anything at all").source is None


def test_chinese_copies_are_found() -> None:
    index = RecallIndex.build([("zh", OTHER_SCRIPTS["zh"]), ("ja", OTHER_SCRIPTS["ja"])])
    assert index.query("好的。" + OTHER_SCRIPTS["zh"]).source == "zh"


def test_hostile_texts(hostile: str) -> None:
    with computes_within(20):
        backwards = nv_recall(hostile, hostile[::-1])
        same = near(hostile, hostile)
        index = RecallIndex.build([("x", hostile[:50_000]), ("y", ENGLISH[0])])
        hit = index.query(hostile)
    assert 0 <= backwards.value <= 1
    assert same == bool(hostile.strip())
    assert hit.source in ("x", None)


def test_letters_changed_all_over_do_not_hide_a_span() -> None:
    """200 characters in which every fifth word is misspelt: no 20 equal words are left, and it is a
    copy.
    """
    words = made_up(11).split()[20:55]
    copy = " ".join("x" + word[1:] if at % 5 == 4 else word for at, word in enumerate(words))
    hit = INDEX.query(f"{ENGLISH[1]} {copy} {ENGLISH[2]}")
    assert (hit.source, hit.flags) == ("t11", ("span",))
    scattered = " ".join(word if at % 5 == 4 else made_up(at, 1) for at, word in enumerate(words))
    assert not INDEX.query(f"{ENGLISH[1]} {scattered}").near


def test_a_saved_index_answers_as_the_built_one(tmp_path: Path) -> None:
    texts = [
        *TEXTS,
        ("zh", OTHER_SCRIPTS["zh"]),
        ("lone \ud800", "a lone \ud800 surrogate " * 9),
        ("long", made_up(5, 9000)),
        ("empty", ""),
    ]
    index = RecallIndex.build(iter(texts))
    index.save(tmp_path / "index")
    loaded = RecallIndex.load(tmp_path / "index")
    assert len(loaded) == len(index) == len(texts)
    for id, text in texts:
        assert loaded.query(text[100:900], own=id) == index.query(text[100:900], own=id)
    RecallIndex.build([]).save(tmp_path / "none")
    assert RecallIndex.load(tmp_path / "none").query("anything at all").source is None


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no recall index"):
        RecallIndex.load(tmp_path)
    INDEX.save(tmp_path)
    (tmp_path / "keys.npy").write_bytes(b"")
    with pytest.raises(HarnessError, match="no recall index"):
        RecallIndex.load(tmp_path)
    (tmp_path / "recall-index.json").write_text('{"version": 99}')
    with pytest.raises(HarnessError, match="version 99"):
        RecallIndex.load(tmp_path)


@given(
    st.lists(st.text("abcd", max_size=60), min_size=1, max_size=12),
    st.integers(0, 11),
    st.integers(0, 40),
)
def test_every_shared_stretch_shares_a_fingerprint(
    texts: list[str], which: int, start: int
) -> None:
    """Winnowing's guarantee: k + w - 1 equal bytes are never missed."""
    postings = Postings.build([text.encode() for text in texts], 8, 4, 500)
    part = texts[which % len(texts)][start : start + 11]
    found, _, _ = postings.sharing(part.encode())
    holders = {at for at, text in enumerate(texts) if part in text}
    assert len(part) < 11 or holders <= set(found.tolist())


@given(st.binary(max_size=90), st.sampled_from([1, 3, 8, 16, 24]))
def test_equal_stretches_have_equal_hashes(data: bytes, k: int) -> None:
    found = gram_hashes(np.frombuffer(data, dtype=np.uint8), k)
    parts = [data[at : at + k] for at in range(len(data) - k + 1)]
    assert len(found) == len(parts)
    assert len(set(found.tolist())) == len(set(parts))


@pytest.mark.parametrize(("words", "copies"), [(1, False), (7, False), (8, True)])
def test_a_short_text_that_is_equal_is_no_copy(words: int, copies: bool) -> None:
    """Whoever knows the capital of France answers "Paris." without having learnt a row by heart."""
    text = " ".join(["the", "quay", "was", "empty", "when", "the", "ferry", "came"][:words]) + "."
    assert RecallIndex.build([("row", text)]).query(text).near is copies
