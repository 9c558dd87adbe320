"""A first look: which formats get more cases, reuse by --full, and its error rates."""

from __future__ import annotations

import itertools
import json
import zlib
from collections import Counter

import pytest

from benchmarks.first_look import rates
from benchmarks.words import models
from harness.cli.eval_job import job_of
from harness.cli.eval_options import EvalOptions
from harness.cli.main import main
from harness.evaluation.analysis.build_report import build_report
from harness.evaluation.analysis.criteria import cases_to_a_word
from harness.evaluation.analysis.format_verdicts import values_by_format, verdicts
from harness.evaluation.analysis.summary import group_mean, matrix
from harness.evaluation.analysis.terminal_lines import header
from harness.evaluation.first_look import (
    PER_KIND,
    ROUNDS,
    level_of_each,
    nested_rounds,
    round_sizes,
    worth_asking,
)
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.claims import Claims
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from harness.progress import recording
from harness.view.live import read_progress
from tests.evaluation.conftest import ask
from tests.scripted_backend import ScriptedBackend

CASES = [
    *(ask(f"c{n}", f"Question {n}?", choices=["yes", "no"], answer=0) for n in range(90)),
    *(ask(f"a{n}", f"Say word {n}.", checks=[{"contains": "word"}]) for n in range(60)),
    *(ask(f"r{n}", f"Why {n}?", reference="Because.") for n in range(30)),
]
FORMATS = load_formats().select(["chatml", "alpaca-newline", "llama3", "zephyr"])
NATIVE = "chatml"


class Endless(ScriptedBackend):
    """Right in every format; its answers never end in one of them."""

    def __init__(self, endless=""):
        def reply(prompt):
            return "a word" + ("" if prompt.format == endless else "</s>")

        super().__init__(reply, lambda rendered: -1.0 if "yes" in rendered.text else -3.0)


def go(folder, backend, *, cases=CASES, formats=FORMATS, native=NATIVE, first_look=True):
    groups = {one.id: "native" if one.id == native else "held-out" for one in formats}
    with Store(folder / "r.sqlite") as store:
        return evaluate(
            backend,
            cases,
            formats,
            groups,
            native,
            store,
            EvalSettings(first_look=first_look),
            quiet=True,
        )


def words(found):
    return {one.format: one.word for one in verdicts(found)}


def test_a_broken_format_is_found_in_the_first_round_and_gets_no_further_cases(tmp_path):
    found = go(tmp_path, Endless("llama3"))
    assert words(found)["llama3"] == "broken"
    assert found.first_look.asked["llama3"] == ROUNDS[0]
    assert found.aggregate("llama3", "stopped").n == ROUNDS[0]
    assert found.aggregate("llama3", "stopped").not_scored == 0


def test_a_format_gets_cases_until_its_word_is_shown(tmp_path):
    found = go(tmp_path, Endless())
    look = found.first_look
    assert set(words(found).values()) == {"works"}
    for name in ("alpaca-newline", "zephyr"):
        assert ROUNDS[0] < look.asked[name] <= ROUNDS[-1]
        assert found.aggregate(name, "choice").n == look.asked[name]
    assert look.asked["chatml"] == max(look.asked.values())  # the reference
    assert look.pairs == len(found.requests) < look.total == len(CASES) * len(FORMATS)


def test_full_asks_only_what_is_missing(tmp_path):
    backend = Endless()
    first = go(tmp_path, backend)
    asked = backend.asked
    assert asked == first.computed == first.first_look.pairs
    again = go(tmp_path, backend)
    assert again.computed == 0 and backend.asked == asked and verdicts(again) == verdicts(first)
    full = go(tmp_path, backend, first_look=False)
    assert full.computed == first.first_look.total - asked and full.first_look is None


def test_no_more_than_the_budget_is_asked(tmp_path):
    """Where the first round leaves any: it is asked in every format."""
    found = go(tmp_path, Endless(), formats=load_formats().select(["common"]))
    assert found.first_look.pairs <= 3 * PER_KIND
    assert max(found.first_look.asked.values()) > ROUNDS[0]
    many = load_formats().select(["grammar:40:seed=1"])
    found = go(tmp_path, Endless(), formats=[*FORMATS[:1], *many])
    assert set(found.first_look.asked.values()) == {ROUNDS[0]}


def test_the_budget_goes_to_the_formats_nearest_to_a_verdict(tmp_path):
    """One is wrong in a part of its answers, the others in none and need more cases to show it."""
    formats = load_formats().select(["common"])

    def reply(prompt):
        wrong = prompt.format == "zephyr" and zlib.crc32(prompt.text.encode()) % 8 < 5
        return ("a thing" if wrong else "a word") + "</s>"

    alike = ScriptedBackend(reply, lambda rendered: -1.0 if "yes" in rendered.text else -3.0)
    found = go(tmp_path, alike, formats=formats)
    assert found.first_look.asked["zephyr"] > ROUNDS[0]
    behind = [one.id for one in formats if found.first_look.asked[one.id] == ROUNDS[0]]
    assert 0 < len(behind) < len(formats) - 2
    values = values_by_format(found.scores)
    first = {one.id for one in nested_rounds(CASES, ROUNDS[:1])[0]}
    early = {
        name: {metric: {c: v for c, v in one.items() if c in first} for metric, one in own.items()}
        for name, own in values.items()
    }
    near = {one.id: cases_to_a_word(early[one.id], early[NATIVE]) for one in formats}
    further = [name for name in near if name not in behind and name != NATIVE]
    assert near["zephyr"] == min(near[one] for one in further)
    assert max(near[one] for one in further) <= min(near[one] for one in behind)


def test_a_native_format_without_any_other_is_measured_alone(tmp_path):
    assert words(go(tmp_path, Endless(), formats=FORMATS[:1])) == {"chatml": "works"}


def test_without_a_native_format_all_that_may_work_go_on_together(tmp_path):
    found = go(tmp_path, Endless("llama3"), native=None)
    asked = found.first_look.asked
    assert words(found)["llama3"] == "broken" and asked.pop("llama3") == ROUNDS[0]
    assert len(set(asked.values())) == 1 and asked["chatml"] > ROUNDS[0]


def test_the_last_format_without_a_reference_is_not_compared_with_itself(tmp_path):
    def reply(prompt):
        return "a word" + ("</s>" if prompt.format == "chatml" else "")

    found = go(tmp_path, ScriptedBackend(reply), native=None)
    assert words(found)["chatml"] != "works" and found.first_look.asked["chatml"] == ROUNDS[0]


def test_few_cases_are_one_look_at_the_whole_level(tmp_path):
    assert level_of_each(round_sizes(4, 8)) == [0.05]
    cases = [case for case in CASES if int(case.id[1:]) < 8]
    first, full = (
        go(tmp_path, Endless("llama3"), cases=cases, first_look=x) for x in (True, False)
    )
    assert verdicts(first) == verdicts(full) and full.computed == 0


@pytest.mark.parametrize(
    ("formats", "most", "sizes"),
    [
        (18, 500, [10, 20]),
        (10, 500, [10, 20, 40]),
        (6, 500, [10, 20, 40, 80]),
        (6, 60, [10, 20, 40, 60]),
        (6, 40, [10, 20, 40]),
        (15, 500, [10, 20, 40]),
        (16, 500, [10, 20]),
        (30, 500, [10, 20]),
        (31, 500, [10]),
        (133, 500, [10]),
        (2, 10, [10]),
        (2, 3, [3]),
    ],
)
def test_the_looks_are_known_before_the_first_answer(formats, most, sizes):
    assert round_sizes(formats, most) == sizes
    assert sum(level_of_each(sizes)) == pytest.approx(0.05)


def test_each_round_holds_the_one_before():
    rounds = nested_rounds(CASES, [10, 20, 40])
    ids = [{case.id for case in part} for part in rounds]
    assert ids[0] < ids[1] < ids[2] and list(map(len, ids)) == [30, 60, 110]


def test_references_that_cannot_change_a_verdict_are_not_asked():
    """Fewer than 30 have no interval. All of them are asked where there are no more."""

    def references(count, sizes):
        some = [*CASES[:150], *(ask(f"r{n}", f"Why {n}?", reference="So.") for n in range(count))]
        rounds = worth_asking(nested_rounds(some, sizes), some)
        ids = [{case.id for case in part} for part in rounds]
        assert all(small <= large for small, large in itertools.pairwise(ids))
        assert [len({one for one in part if one[0] == "c"}) for part in ids] == sizes
        return [len({one for one in part if one[0] == "r"}) for part in ids]

    assert references(100, [10, 20, 40, 80]) == [10, 10, 40, 80]
    assert references(29, [10, 20, 40]) == [10, 10, 29]
    assert references(30, [10, 20]) == [10, 10]
    assert references(20, [10, 20]) == [10, 20]
    assert references(5, [10, 20]) == [5, 5]


def test_what_is_not_asked_is_not_spent_on_other_formats(tmp_path):
    common = load_formats().select(["common"])
    ten = [*FORMATS, *(one for one in common if one not in FORMATS)][:10]
    (tmp_path / "ten").mkdir()
    asked = go(tmp_path / "ten", Endless(), formats=ten).first_look.asked
    rounds = [sum(size >= least for size in asked.values()) for least in (10, 20, 40)]
    paid = [30, 30, 50]  # of 10 + 10 + 10, 20 + 20 + 20 and 40 + 40 + 30 cases
    assert rounds == [10, 10, (3 * PER_KIND - 10 * paid[0] - 10 * paid[1]) // paid[2]]
    found = go(tmp_path, Endless(), formats=common)
    asked = found.first_look.asked
    rounds = [sum(size >= least for size in asked.values()) for least in (10, 20)]
    assert rounds == [18, (3 * PER_KIND - 18 * 30) // 30]
    kinds = Counter(item.kind for item in found.requests)
    assert kinds == {"choice": 300, "answer": 300, "reference": 180}


def test_the_answers_of_a_round_are_claimed_together(tmp_path, monkeypatch):
    """They are generated side by side; requests to score are claimed in smaller parts."""
    sizes, take = [], Claims.take

    def recorded(self, keys, most):
        taken = take(self, keys, most)
        sizes.append(len(taken.mine))
        return taken

    monkeypatch.setattr(Claims, "take", recorded)
    monkeypatch.setattr("harness.evaluation.execute.CLAIM_S", 0.0)
    go(tmp_path, Endless(), formats=load_formats().select(["common"]))
    scored, answered = [64] * 5 + [40], [180]
    assert sizes[:7] == scored + answered


def test_the_viewer_sees_what_is_ahead_and_the_words_so_far(tmp_path):
    seen = []

    def score(rendered):
        if not seen:
            seen.append(read_progress(tmp_path).phases)
        return -1.0 if "yes" in rendered.text else -3.0

    def reply(prompt):
        return "a word" + ("" if prompt.format == "llama3" else "</s>")

    with recording(tmp_path):
        found = go(tmp_path, ScriptedBackend(reply, score))
    assert [(phase.name, phase.done, phase.total) for phase in seen[0]] == [
        ("evaluate: round 1: score", 0, 80),
        ("evaluate: round 1: answer", 0, 40),
    ]
    so_far = read_progress(tmp_path).formats
    assert {name: one.word for name, one in so_far.items()} == words(found)


def test_means_over_formats_are_of_the_cases_that_all_were_asked(tmp_path):
    """llama3 has the tenth of the cases and counts as much as any other."""
    found = go(tmp_path, Endless("llama3"))
    assert matrix(found, "stopped").shape == (ROUNDS[0], len(FORMATS))
    mean = group_mean(found, "stopped", "held-out")
    assert (mean.value, mean.n) == (pytest.approx(2 / 3), ROUNDS[0])


def test_terminal_and_report_say_that_it_is_a_first_look(tmp_path):
    found = go(tmp_path, Endless("llama3"))
    assert f"{ROUNDS[0]} to 40 cases of each kind" in header(found)
    assert "--full asks all" in found.first_look.text
    facts = found.first_look.as_dict()
    assert (facts["asked"]["llama3"], facts["pairs"]) == (ROUNDS[0], len(found.requests))
    assert build_report([found], model="m").settings["first_look"] is True
    assert "first_look" not in EvalSettings().as_dict()


@pytest.mark.parametrize(("flags", "asked"), [((), {"chatml": 1}), (("--full",), None)])
def test_json_says_how_much_a_first_look_asked(tiny_model, tmp_path, capsys, flags, asked):
    case = {"id": "a", "messages": [{"role": "user", "content": "Hi."}], "checks": [{"says": "x"}]}
    (tmp_path / "cases.jsonl").write_text(json.dumps(case))
    command = ["eval", str(tiny_model), "--formats", "chatml", "--max-new-tokens", "2", "--json"]
    where = ["--cases", str(tmp_path / "cases.jsonl"), "--out", str(tmp_path / "out")]
    assert main([*command, *where, *flags]) == 0
    look = json.loads(capsys.readouterr().out)["first_look"]
    assert (look and look["asked"]) == asked


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({}, True),
        ({"recall": True}, True),
        ({"full": True}, False),
        ({"limit": 8}, False),
        ({"budget": "10%"}, False),
        ({"find": ("best",)}, False),
        ({"flips": True}, False),
        ({"turns": ("3",)}, False),
        ({"samples_per_case": 2, "temperature": 1.0}, False),
    ],
)
def test_what_makes_an_evaluation_a_first_look(given, first):
    assert job_of(EvalOptions(model="m", **given)).settings.first_look is first


@pytest.mark.parametrize(
    "model", [one for one in models() if not one.call_valid], ids=lambda model: model.name
)
def test_level_and_power(model):
    """A short simulation of four looks; tests/slow/test_words.py has more of them.

    Of 30 first looks at most 5 are wrong at a rate of 5 %, in 99.7 of 100 simulations.
    """
    found = rates(model, 6, 30)
    if "good" in model.name:
        assert found["degraded"] + found["broken"] <= 5
    else:
        assert found["works"] <= 5
    if model.name == "never stops":
        assert found["broken"] == 30
