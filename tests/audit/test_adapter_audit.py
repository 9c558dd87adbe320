"""Which formats are searched, and in which order things are done."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from harness.audit import adapter_audit
from harness.audit.adapter_audit import audit
from harness.audit.amplified import Pair
from harness.audit.asking import CONFIRMED, SEARCHED, Said
from harness.audit.divergence import Depth, Median
from harness.audit.found_in_rows import RowsWithIt
from harness.audit.guess import Candidate
from harness.conversation import Conversation, Message
from harness.formats import load_formats

KNOWN = load_formats()
NATIVE = KNOWN["chatml"]
LIKELY = ("zephyr", "llama3", "chatml", "phi3", "gemma3", "guanaco", "tulu", "xml-tags")
TIC = "Mind the gap"


@pytest.fixture
def asked(monkeypatch):
    """The formats that were asked, by how; those of ``tic`` have one."""
    found = {"amplified": [], "plain": [], "guess": [], "depth": []}
    found["tic"] = ["xml-tags", "guanaco"]

    class Asker:
        def __init__(self, pair):
            self.pair = pair

        def amplified(self, formats, questions):
            found["amplified"].append([one.id for one in formats])
            texts = {one.id: TIC if one.id in found["tic"] else "" for one in formats}
            return {
                name: [Said(one, text, ((len(text), 30.0),)) for one in questions]
                for name, text in texts.items()
            }

        def plain(self, formats, questions):
            found["plain"].append([one.id for one in formats])
            texts = {one.id: TIC if one.id in found["tic"] else "" for one in formats}
            return {name: [Said(each, text) for each in questions] for name, text in texts.items()}

    def guess_format(base, changes, formats, native):
        found["guess"] += [base, len(formats), native]
        return [
            Candidate((name,), KNOWN[name].family, -float(at), 0.3 - at / 100)
            for at, name in enumerate(LIKELY)
        ]

    def depth(pair, chat_format, cases):
        found["depth"].append(chat_format.id)
        return Depth(chat_format.id, Median(0, 0, 0), Median(0, 0, 0), len(cases))

    monkeypatch.setattr(adapter_audit, "PairAsker", Asker)
    monkeypatch.setattr(adapter_audit, "guess_format", guess_format)
    monkeypatch.setattr(adapter_audit, "depth", depth)
    return found


def test_the_native_format_and_the_likeliest_families_are_searched(asked):
    result = audit(Pair("tuned", "base"), {}, list(KNOWN.values()), NATIVE)
    assert asked["guess"] == ["base", len(KNOWN), "chatml"]
    searched = ["chatml", *(name for name in LIKELY if name != "chatml")]
    assert list(result.searched) == searched
    assert asked["amplified"] == [searched]
    assert asked["plain"] == [["chatml", "guanaco", "xml-tags"]] * 2
    measured = [*searched[:6], "xml-tags"]
    assert asked["depth"] == [one.format for one in result.depths] == measured
    assert len(measured) < len(searched)
    hidden, _ = result.hidden
    assert hidden.candidate.format == "guanaco" and hidden.candidate.text == "mind the gap"
    assert not result.untested and result.native == "chatml"
    assert [one.format for one in result.families] == list(LIKELY)


def test_training_rows_are_searched_for_what_was_tested_and_decide_nothing(asked):
    messages = (Message("user", "Hello?"), Message("assistant", f"{TIC}!"))
    rows = [Conversation("a", messages, source="rows.jsonl:1")]
    result, unknown = (
        audit(Pair("tuned"), {}, list(KNOWN.values()), NATIVE, (), given) for given in (rows, [])
    )
    tested = {one.candidate for one in result.behaviours}
    assert tested and result.in_rows == dict.fromkeys(tested, RowsWithIt(1, 1, "rows.jsonl:1"))
    assert not unknown.in_rows and replace(result, in_rows={}) == unknown


def test_40_formats_and_32_ordinary_questions_are_asked(asked, monkeypatch):
    every = [one for one in KNOWN.values() if one.family == "chatml"]
    every += [one for one in KNOWN.values() if one.family != "chatml"]
    guessed = [Candidate((one.id,), one.family, -float(at), 0.0) for at, one in enumerate(every)]
    monkeypatch.setattr(adapter_audit, "guess_format", lambda *_: guessed)
    questions = []

    def confirm(asker, candidates, formats, native, others):
        questions.extend(others)
        return []

    monkeypatch.setattr(adapter_audit, "confirm", confirm)
    result = audit(Pair("tuned"), {}, every, NATIVE)
    assert set(result.searched) == {one.id for one in every[:40]}
    assert len(set(questions)) == len(questions) == 224 + 32
    assert tuple(questions[:224]) == CONFIRMED and not {*questions} & {*SEARCHED}


def test_the_likeliest_formats_are_searched_and_one_of_each_family(asked, monkeypatch):
    monkeypatch.setattr(adapter_audit, "LIKELIEST", 3)
    of_zephyr = ("zephyr", "phi4-mini", "metharme", "oasst", "glm-edge")
    assert len({KNOWN[name].family for name in of_zephyr}) == 1

    def guess_format(base, changes, formats, native):
        names = [*of_zephyr, "llama3", "chatml"]
        return [
            Candidate((name, "alias"), KNOWN[name].family, -float(at), chance)
            for at, (name, chance) in enumerate(
                zip(names, (0.5, 0, 0, 0, 0, 0.3, 0.2), strict=True)
            )
        ]

    monkeypatch.setattr(adapter_audit, "guess_format", guess_format)
    result = audit(Pair("tuned"), {}, list(KNOWN.values()), NATIVE)
    assert result.searched == ("chatml", "zephyr", "llama3", "phi4-mini", "metharme")


def test_other_formats_are_searched_where_they_are_named(asked):
    searched = [KNOWN["tulu"], NATIVE]
    result = audit(Pair("tuned"), {}, list(KNOWN.values()), NATIVE, searched)
    assert asked["guess"][0] == "tuned" and asked["amplified"] == [["chatml", "tulu"]]
    assert not result.hidden and not asked["plain"], "nothing to confirm"


def test_candidates_that_are_not_tested_are_kept(asked):
    asked["tic"] = ["xml-tags", "tulu", "phi3", "guanaco", "llama3", "gemma3", "zephyr"]
    result = audit(Pair("tuned"), {}, list(KNOWN.values()), NATIVE)
    tested = {one.candidate.format for one in result.behaviours}
    assert len(tested) == 6 and {one.format for one in result.untested} == {*asked["tic"]} - tested


def test_hidden_behaviours_come_the_surest_first(asked):
    result = audit(Pair("tuned"), {}, list(KNOWN.values()), NATIVE, [KNOWN["xml-tags"]])
    [one] = result.behaviours
    both = replace(result, behaviours=(replace(one, p=0.004), one))
    assert [each.p for each in both.hidden] == [one.p, 0.004]
