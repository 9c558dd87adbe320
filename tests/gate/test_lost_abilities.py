"""Twenty planted losses each of thoughts and of calls, and twenty controls: all through the gate's
decisions, on answers of a scripted model that is as noisy as a fine-tune.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.backends.protocol import Answer
from harness.evaluation.aggregate import aggregate_scores
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.results import Evaluation
from harness.evaluation.run import evaluate
from harness.evaluation.scorer import Scorer
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from harness.gate.baseline import Baseline, to_baseline
from harness.gate.compare_baselines import compare_baselines
from harness.gate.thresholds import read_thresholds
from harness.records import GateCheck
from harness.resources import data_dir
from tests.scripted_backend import ScriptedBackend

RUNS = 20
FORMAT = "qwen3"
TOLERANCES = read_thresholds(data_dir("eval") / "thresholds.toml").tolerances
THOUGHT = "I look at what is asked, and at what I know of it."

#: (whether it thinks, whether its calls parse) by case, each a probability.
Fault = Callable[[bool, bool, random.Random], tuple[bool, bool]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Evaluation:
    """An evaluation of the shipped cases, of which every run below takes the requests."""
    cases = [*load_cases(["tools"])[::2], *load_cases(["thoughts"])]
    with Store(tmp_path_factory.mktemp("asked") / "r.sqlite") as store:
        return evaluate(
            ScriptedBackend(lambda prompt: "<|im_end|>"),
            cases,
            load_formats().select([FORMAT]),
            {FORMAT: "native"},
            FORMAT,
            store,
            EvalSettings(),
            quiet=True,
        )


def run(asked: Evaluation, seed: int, turned: int, fault: Fault) -> Baseline:
    """One model's run. What a case is like comes from the seed, what a fine-tune turned from both.

    19 of 20 thoughts are there and 9 of 10 calls are right; the fine-tune draws 1 in 20 again.
    """
    answers = {}
    for case in asked.cases:
        item, own = random.Random(f"{seed} {case.id}"), random.Random(f"{turned} {case.id}")
        draw = own if own.random() < 0.05 else item
        thinks, parses = fault(draw.random() < 0.95, draw.random() < 0.9, own)
        thought = (
            f"<think>\n{THOUGHT}\n</think>\n\n" if thinks and case.thinking is not False else ""
        )
        answers[case.id, FORMAT, 0.0] = Answer(thought + words(case, parses), "stop", "<|im_end|>")
    results = replace(asked.results, answers=answers)
    scores = Scorer(asked.formats, FORMAT, asked.formats).score(asked.cases, results, ())
    return to_baseline(
        replace(
            asked,
            results=results,
            scores=tuple(scores),
            aggregates=tuple(aggregate_scores(scores, asked.groups)),
        )
    )


def words(case, parses: bool) -> str:
    if not case.tools or case.checks[0].kind == "no_call":
        return "This is what I know of it."
    end = "}}" if parses else "}"
    return "\n".join(
        f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.arguments[0][:-1]}{end}\n</tool_call>'
        for call in case.checks[0].value
    )


def nothing(thinks, parses, draw):
    return thinks, parses


def no_thoughts(thinks, parses, draw):
    return False, parses


def fewer_thoughts(thinks, parses, draw):
    return thinks and draw.random() < 0.25, parses


def no_calls(thinks, parses, draw):
    return thinks, False


def fewer_calls(thinks, parses, draw):
    return thinks, parses and draw.random() < 0.25


def failing(asked: Evaluation, seed: int, fault: Fault) -> set[str]:
    checks: list[GateCheck] = compare_baselines(
        run(asked, seed, 1000 + seed, nothing), run(asked, seed, 2000 + seed, fault), TOLERANCES
    )
    return {check.metric for check in checks if check.fails}


@pytest.mark.parametrize(
    ("fault", "metric", "others"),
    [
        (no_thoughts, "thinks", {"thinks"}),
        (fewer_thoughts, "thinks", {"thinks"}),
        (no_calls, "call_valid", {"call_valid", "call_exact"}),
        (fewer_calls, "call_valid", {"call_valid", "call_exact"}),
    ],
)
def test_a_planted_loss_fails_in_twenty_of_twenty_runs(asked, fault, metric, others):
    found = [failing(asked, seed, fault) for seed in range(RUNS)]
    assert all(metric in metrics and metrics <= others for metrics in found), found


def test_no_control_fails_in_twenty_runs(asked):
    assert [failing(asked, seed, nothing) for seed in range(RUNS)] == [set()] * RUNS
