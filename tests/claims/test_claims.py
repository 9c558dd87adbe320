"""experiments.claims: what decides each verdict, and all of the code on the tiny model."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.claims.__main__ import claims
from experiments.claims.by_heart import ByHeart, compared, predicted, warning
from experiments.claims.claims import BY_NAME, CLAIMS, Measured
from experiments.claims.lab import BASE, Lab
from experiments.claims.page import RESULTS_FILE, read_results, results_text, verdict
from experiments.page_results import BEGIN, END, with_kept
from harness.backends.protocol import Answer
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.models import load
from harness.models.architecture import context_window
from harness.run_file import read_metrics
from harness.training.data.examples import make_plan
from harness.training.preparation import prepare
from harness.training.schedules import Schedule
from harness.training.step.loss import plain_losses

ROOT = Path(__file__).resolve().parents[2]
CASES = [f"c{number}" for number in range(60)]


class Numbers:
    """A lab whose models have these mean NLLs (native, held out), and gains (rows, controls)."""

    def __init__(self, nll=None, gains=None, noise=0.02):
        self.nll, self.gains, self.noise = nll or {}, gains or {}, noise

    def references(self, name):
        draw = random.Random(name)
        native, held_out = self.nll[name]
        return {
            "native": {case: native + draw.gauss(0, self.noise) for case in CASES},
            "held out": {case: held_out + draw.gauss(0, self.noise) for case in CASES},
        }

    def recall(self, name):
        draw = random.Random(name)
        before = {side: dict.fromkeys(CASES, -3.0) for side in ("rows", "controls")}
        after = {
            side: {case: -3.0 + gain + draw.gauss(0, 0.05) for case in CASES}
            for side, gain in zip(("rows", "controls"), self.gains[name], strict=True)
        }
        return before, after


def rates(full, lora):
    names = ("full-3e-5", "full-1e-4", "full-3e-4", "lora-3e-4", "native", "lora-3e-3")
    return {name: (value, 9.0) for name, value in zip(names, (*full, *lora), strict=True)}


@pytest.mark.parametrize(
    ("name", "nll", "holds"),
    [
        ("format-mix", {"native": (2, 3), "mixed-30": (2, 2.2), "mixed": (2, 2.1)}, True),
        ("format-mix", {"native": (2, 3), "mixed-30": (2, 2.8), "mixed": (2, 2.1)}, False),
        ("format-mix", {"native": (2, 3), "mixed-30": (2, 2.55), "mixed": (2, 2.1)}, None),
        ("frozen-prompt", {BASE: (3, 3), "native": (2, 3.2), "mixed": (2, 2.5)}, True),
        ("frozen-prompt", {BASE: (3, 3), "native": (2, 2.5), "mixed": (2, 2.5)}, False),
        ("repetition", {BASE: (3, 3), "once": (2.5, 3), "repeated": (2.4, 3)}, True),
        ("repetition", {BASE: (3, 3), "once": (2.4, 3), "repeated": (2.5, 3)}, False),
        ("all-layers", {"attention-only": (2.5, 3), "native": (2.4, 3)}, True),
        ("all-layers", {"attention-only": (2.4, 3), "native": (2.5, 3)}, False),
        ("ten-times-rate", rates((3, 2, 2.5), (2.5, 2, 2.5)), True),
        ("ten-times-rate", rates((3, 2, 2.5), (2.5, 2, 1.9)), False),
        ("ten-times-rate", rates((2, 2.1, 2.5), (2.5, 2, 1.9)), False),
    ],
)
def test_a_planted_effect_is_found_and_its_absence_too(name, nll, holds):
    claim, noise = BY_NAME[name], 0.3 if holds is None else 0.02
    assert claim.holds(claim.measure(Numbers(nll, noise=noise)).effect) is holds


@pytest.mark.parametrize(
    ("full", "lora", "holds"),
    [
        ((0.8, 0.3), (0.5, 0.3), True),
        ((0.5, 0.3), (0.5, 0.3), False),
        ((0.5, 0.3), (0.8, 0.3), False),
    ],
)
def test_leaks_are_compared_beyond_what_controls_gain(full, lora, holds):
    lab = Numbers(
        rates((3, 2, 2.5), (2.5, 2, 2.5)),
        {"full-1e-4": full, "native": lora},
    )
    claim = BY_NAME["lora-leaks-less"]
    found = claim.measure(lab)
    assert claim.holds(found.effect) is holds
    assert "full-1e-4" in found.also


def test_the_smallest_effects_are_those_that_were_set_before_the_runs():
    assert {claim.name: claim.least for claim in CLAIMS} == {
        **dict.fromkeys(("format-mix", "frozen-prompt", "repetition"), 0.02),
        **dict.fromkeys(("all-layers", "ten-times-rate"), 0.02),
        "n-gram-first": 0.5,
        "greedy-recall": 0.05,
        "lora-leaks-less": 0.05,
    }


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.name for claim in CLAIMS])
def test_the_smallest_effect_decides(claim):
    def holds(low, high):
        return claim.holds({"value": (low + high) / 2, "low": low, "high": high, "n": 60})

    least = claim.least
    assert holds(0.001, 2 * least) is not claim.absent
    assert holds(-0.001, least) is None
    assert holds(-0.001, 0.999 * least) is claim.absent
    assert claim.holds(None) is None


def seen(*numbers, verbatim_from=99, least=0.1):
    """A row over checkpoints 0, 1, …: its n-gram scores."""
    return [ByHeart(least, number, at >= verbatim_from) for at, number in enumerate(numbers)]


def course(**rows):
    longest = max(map(len, rows.values()))
    return {at: {row: found[at] for row, found in rows.items()} for at in range(longest)}


def test_a_warning_comes_before_the_answer_or_with_it():
    of = course(
        early=seen(0.0, 0.2, 0.5, 1.0, verbatim_from=3),
        together=seen(0.0, 0.0, 0.1, 1.0, verbatim_from=3),
        never=seen(0.0, 0.2, 0.5, 0.6),
        known=seen(1.0, 1.0, 1.0, 1.0, verbatim_from=0),
    )
    assert warning(of) == ([2.0, 0.0], 4)


@pytest.mark.parametrize(
    ("text", "finish", "verbatim"),
    [
        ("So it rained.", "stop", True),
        (" So it rained. And then it snowed.", "stop", True),
        ("So it", "stop", False),
        ("So it", "length", True),
        ("So we", "length", False),
        ("", "length", False),
        ("", "stop", False),
    ],
)
def test_an_answer_is_verbatim_that_begins_with_the_reference(text, finish, verbatim):
    assert compared(0.5, Answer(text, finish, ""), "So it rained.").verbatim is verbatim


def test_a_prediction_is_wrong_where_the_answer_is_another():
    of = course(
        right=[ByHeart(0.51, 1.0, True)] * 3,
        wrong=[ByHeart(0.51, 0.0, False), *[ByHeart(0.5, 0.0, False)] * 2],
    )
    found, sure, verbatim = predicted(of)
    assert (found.value, sure, verbatim) == (0.25, 4, 3)
    assert predicted(course(none=[ByHeart(0.5, 0.0, True)]))[0] is None


@pytest.mark.parametrize(("wrong", "holds"), [(0, True), (12, False)])
def test_predictions_are_judged_over_rows(wrong, holds, monkeypatch):
    rows = {f"r{at}": [ByHeart(0.9, 1.0, at >= wrong)] * 5 for at in range(120)}
    monkeypatch.setattr("experiments.claims.claims.answers_at", lambda lab, name: course(**rows))
    claim = BY_NAME["greedy-recall"]
    assert claim.holds(claim.measure(None).effect) is holds


def test_thirty_percent_of_the_rows_are_in_other_formats(tmp_path):
    config = Lab(tmp_path).config("mixed-30")
    ready = prepare(config)
    weights = [config.formats.format_weights.get(one.id, 1.0) for one in ready.trained]
    own = [
        weight for one, weight in zip(ready.trained, weights, strict=True) if one.id == "smollm2"
    ]
    assert 1 - sum(own) / sum(weights) == pytest.approx(0.3, abs=0.001)
    every = prepare(Lab(tmp_path).config("mixed"))
    assert [one.id for one in every.trained] == [one.id for one in ready.trained]
    families = {one.family for one in load_formats().select(config.formats.held_out)}
    assert not families & {one.family for one in ready.trained} and len(ready.trained) == 12


def test_runs_that_are_compared_differ_in_one_thing(tmp_path):
    lab = Lab(tmp_path)
    names = list(lab.runs)
    named = {name: lab.config(name) for name in names}
    assert len(prepare(named["repeated"]).conversations) == 24
    once = -(-len(prepare(named["once"]).conversations) // 8)
    assert named["repeated"].optimisation.max_steps == once == 26
    few, kinds = prepare(named["over-trained"]).conversations, set()
    for row in few:
        kinds.add(row.id.partition("-")[0])
    assert len(few) == 48 and len(kinds) == 10
    for one, other in itertools.combinations(("full-3e-5", "full-1e-4", "full-3e-4"), 2):
        assert named[one].data == named[other].data and named[one].schedule == named[other].schedule


def test_attention_alone_has_as_many_weights_as_all_layers(tmp_path):
    hidden, keys, inner = 576, 192, 1536  # SmolLM2-135M
    lab = Lab(tmp_path)
    attention = lab.config("attention-only").adapter.lora_r * 2 * (2 * hidden + hidden + keys)
    every = lab.config("native").adapter.lora_r * (
        2 * (2 * hidden + hidden + keys) + 3 * (hidden + inner)
    )
    assert attention == pytest.approx(every, rel=0.02)


@pytest.fixture(scope="module")
def smoke(tiny_model, tmp_path_factory):
    """All claims on the tiny model, from the repository's folder."""
    out = tmp_path_factory.mktemp("claims")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(ROOT)
    assert claims(["--all", "--smoke", "--model", str(tiny_model), "--out", str(out)]) == 0
    monkeypatch.undo()
    return out


def test_a_smoke_run_measures_every_claim(smoke, capsys):
    results = read_results(smoke)
    assert list(results) == [claim.name for claim in CLAIMS]
    page = smoke / "page.md"
    page.write_text(f"# T\n{BEGIN}old\n{END}tail\n")
    assert claims(["--page", str(page), "--out", str(smoke)]) == 0
    assert page.read_text() == f"# T\n{BEGIN}{results_text(results)}{END}tail\n"
    capsys.readouterr()
    assert claims(["--out", str(smoke)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CLAIMS) and "not run" not in "".join(lines)


def test_full_tuning_changes_the_model_and_is_measured(smoke):
    base, tuned = (
        json.loads((smoke / name / "references.json").read_text()) for name in (BASE, "full-3e-4")
    )
    assert base["native"].keys() == tuned["native"].keys() and base["native"] != tuned["native"]
    before, after = json.loads((smoke / "full-3e-4" / "recall.json").read_text())
    assert before["rows"].keys() == after["rows"].keys() and before != after
    assert len(before["rows"]) == len(before["controls"]) == 4
    assert not (smoke / "full-3e-4" / "model").exists()


def test_full_tuning_has_the_steps_and_the_loss_of_a_run(tiny_model, tmp_path, monkeypatch):
    """The first step's loss is LoRA's, whose adapter changes nothing yet."""
    from experiments.claims import full_tuning

    monkeypatch.chdir(ROOT)
    lab = Lab(tmp_path, str(tiny_model), smoke=True)
    losses = []
    kept = full_tuning._losses

    def spy(*args):
        for loss in kept(*args):
            losses.append(loss)
            yield loss

    monkeypatch.setattr(full_tuning, "_losses", spy)
    lab.run("full-3e-4")
    steps = [one for one in read_metrics(lab.run("native")) if one["kind"] == "step"]
    assert len(losses) == len(steps) == 2
    assert losses[0] == pytest.approx(steps[0]["loss"], rel=2e-3)


def test_full_tuning_takes_the_steps_of_adamw(tiny_model, tmp_path, monkeypatch):
    """Written out: a mean over the step's tokens, a schedule, clipped gradients."""
    monkeypatch.chdir(ROOT)
    lab = Lab(tmp_path, str(tiny_model), smoke=True)
    tuned = load(str(lab.run("full-3e-4") / "model"), dtype="float32").model
    config = lab.config("full-3e-4")
    ready, loaded = prepare(config), load(str(tiny_model), dtype="float32")
    cache, _ = ready.encode(loaded.tokenizer, context_window(loaded.model.config))
    plan, schedule = make_plan(config, cache), Schedule(config.schedule, 2)
    weights = list(loaded.model.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(weights, weight_decay=0.0)
    assert schedule.factor(0) != schedule.factor(1)
    for number in range(2):
        optimizer.param_groups[0]["lr"] = 3e-4 * schedule.factor(number)
        losses, _ = plain_losses(loaded, [cache(pair) for pair in plan.step(number)])
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for one, other in zip(tuned.parameters(), weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_an_unknown_claim_is_refused(tmp_path):
    with pytest.raises(HarnessError, match="unknown claim 'n-gram'"):
        claims(["n-gram", "--out", str(tmp_path)])
    (tmp_path / "x.md").write_text(f"{BEGIN}{END}")
    with pytest.raises(HarnessError, match="no results yet"):
        claims(["--page", str(tmp_path / "x.md"), "--out", str(tmp_path)])


def test_what_another_process_measured_meanwhile_is_kept(tmp_path, monkeypatch):
    def measure(lab):
        (lab.out / RESULTS_FILE).write_text(json.dumps({"repetition": {"effect": None}}))
        return Measured(None, "1 of 2")

    claim = replace(BY_NAME["format-mix"], measure=measure)
    monkeypatch.setitem(BY_NAME, "format-mix", claim)
    assert claims(["format-mix", "--out", str(tmp_path)]) == 0
    results = read_results(tmp_path)
    assert results.keys() == {"repetition", "format-mix"}
    assert results["format-mix"] == {"effect": None, "also": "1 of 2"}


def test_the_page_shows_the_committed_numbers_and_no_others():
    page = ROOT / "docs" / "claims.md"
    assert results_text(with_kept(page, {}, "")) in page.read_text("utf-8")


def test_a_claim_without_results_was_not_run():
    assert {verdict(claim, {}) for claim in CLAIMS} == {"not run"}
    assert verdict(CLAIMS[0], {CLAIMS[0].name: {"effect": None}}) == "not measured"
