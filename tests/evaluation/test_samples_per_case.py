"""Sampled answers: their seeds, their addresses, and means over samples."""

from __future__ import annotations

from itertools import count

import pytest

from harness.backends.sampling import Sampling, seed_of
from harness.cli.main import main
from harness.evaluation.requests import RequestBuilder
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from tests.scripted_backend import ScriptedBackend


def run(backend, cases, formats, path, **settings):
    with Store(path) as store:
        return evaluate(
            backend,
            cases,
            formats,
            {f.id: "held-out" for f in formats},
            None,
            store,
            EvalSettings(**settings),
            quiet=True,
        )


def test_every_sample_has_its_own_seed_and_address(cases, formats):
    builder = RequestBuilder(ScriptedBackend(lambda prompt: "x"), 8, Sampling(0.7, 0.9, 5, seed=3))
    checked = [case for case in cases if case.checks]
    requests = [item for draw in range(3) for item in builder.build(checked, formats, draw)]
    assert (
        len({item.key for item in requests})
        == len({item.request.sampling.seed for item in requests})
        == len(requests)
        == 3 * len(checked) * len(formats)
    )
    assert requests[0].request.sampling == Sampling(
        0.7, 0.9, 5, seed_of(3, checked[0].id, formats[0].id, 0)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.8},
        {"top_p": 0.8},
        {"top_k": 3},
        {"seed": 1},
        {"temperature": 0.0, "top_p": 1.0},
    ],
)
def test_other_settings_never_reuse_an_answer(cases, formats, tmp_path, change):
    backend = ScriptedBackend(lambda prompt: "hello")
    first = run(backend, cases, formats, tmp_path / "r", temperature=0.7, top_p=0.9)
    again = run(backend, cases, formats, tmp_path / "r", temperature=0.7, top_p=0.9)
    other = run(
        backend, cases, formats, tmp_path / "r", **{"temperature": 0.7, "top_p": 0.9, **change}
    )
    answers = sum(bool(case.checks) for case in cases) * len(formats)
    assert (first.computed > answers, again.computed, other.computed) == (True, 0, answers)


def test_scores_are_means_over_samples_and_cases_stay_items(cases, formats, tmp_path):
    """Of four samples, every other says hello: a case is half right, and n counts cases."""
    turn = count()
    backend = ScriptedBackend(lambda prompt: "hello" if next(turn) % 2 else "nothing")
    [case] = [case for case in cases if case.id == "a1"]
    found = run(backend, [case], formats[:1], tmp_path / "r", temperature=1.0, samples_per_case=4)
    cell = found.aggregate(formats[0].id, "answer_lenient")
    assert found.computed == 4 and (cell.mean, cell.n) == (0.5, 1)


@pytest.mark.parametrize(
    "args",
    [
        ["--draws", "3"],
        ["--top-p", "0.9"],
        ["--temperature", "-1"],
        ["--temperature", "1", "--top-p", "0"],
    ],
)
def test_useless_and_impossible_settings_are_refused(args, capsys):
    assert main(["eval", "nothing-here", *args]) == 2
    assert "--t" in capsys.readouterr().err
