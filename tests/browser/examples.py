"""Small reports with made-up figures that look like real ones: for the pictures in the docs."""

from __future__ import annotations

import random
from typing import Any

from harness.gate.baseline import to_baseline
from harness.gate.compare_baselines import compare_baselines
from harness.gate.compare_runs import build_comparison
from harness.gate.thresholds import read_thresholds
from harness.metrics.registry import lower_is_better
from harness.report.comparison import Comparison
from harness.report.document import Report
from harness.report.sweep_document import Sweep
from harness.resources import data_dir
from tests.gate.conftest import build_evaluation
from tests.report.fixture import make
from tests.report.sweeps import points

FORMATS = {
    "smollm2": "native",
    **dict.fromkeys(("alpaca-newline", "chatml", "vicuna-v1.1", "zephyr"), "seen"),
    **dict.fromkeys(("gemma3", "llama2-chat", "llama3", "mistral-v1", "openchat-3.5"), "held-out"),
}
METRICS = ("choice", "on_task", "stopped", "empty", "leak", "nll_excess")
#: How well a format does in a group, before and after training: 0 to 1.
_LEVELS = {"native": (0.98, 0.98), "seen": (0.62, 0.92), "held-out": (0.34, 0.81)}
_SCAFFOLDING = {
    "chatml": (
        "<|im_start|>user\n",
        [["<|im_end|>", "stop"], ["\n<|im_start|>assistant\n", "header"]],
        "<|im_end|>",
    ),
    "llama3": (
        "<|start_header_id|>user<|end_header_id|>\n\n",
        [["<|eot_id|>", "stop"], ["<|start_header_id|>assistant<|end_header_id|>\n\n", "header"]],
        "<|eot_id|>",
    ),
    "alpaca-newline": ("### Instruction:\n", [["\n\n### Response:\n", "header"]], "</s>"),
}
_CHOICE = "What is the capital of Norway?"
_QUESTION = "Which planet is the largest of the solar system? One word."
_ANSWERS = {
    "good": ("Jupiter.", "stop"),
    "leak": ("Jupiter.<|im_end|>\n<|im_start|>user\nAnd the smallest?", "length"),
    "empty": ("", "stop"),
}


#: The example's words, and what is wrong: before and after training.
_WORDS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "llama2-chat": (
        ("broken", "75% of the answers are empty"),
        ("broken", "62% of the answers are empty"),
    ),
    "mistral-v1": (
        ("broken", "71% of the answers are empty"),
        ("broken", "58% of the answers are empty"),
    ),
    "llama3": (
        ("broken", "only 12% of the answers end by themselves"),
        ("degraded", "worse than smollm2: 62% of the answers end by themselves against 98%"),
    ),
    "gemma3": (
        ("degraded", "worse than smollm2: 31% of the free answers right against 58%"),
        ("degraded", "worse than smollm2: 40% of the free answers right against 60%"),
    ),
}


#: What the words above rest on: (format, metric) → before and after.
_MEASURED = {
    ("llama2-chat", "empty"): (0.75, 0.62),
    ("mistral-v1", "empty"): (0.71, 0.58),
    ("llama3", "stopped"): (0.12, 0.62),
    ("gemma3", "on_task"): (0.31, 0.40),
}


def example_report() -> Report:
    """Two runs, before and after training, in ten formats."""
    rng = random.Random(7)
    table = make(formats=len(FORMATS), samples=0)
    for facts, (name, group) in zip(table["formats"], FORMATS.items(), strict=True):
        facts.update(id=name, group=group)
    for at, run in enumerate(table["runs"]):
        goodness = {
            name: min(0.99, max(0.02, _LEVELS[group][at] + rng.uniform(-0.12, 0.06)))
            for name, group in FORMATS.items()
        }
        run["cells"] = [
            _cell(name, metric, value, rng)
            for name, value in goodness.items()
            for metric in METRICS
        ]
        for cell in run["cells"]:
            known = _MEASURED.get((cell["format"], cell["metric"]))
            if known is not None or (cell["format"], cell["metric"]) == ("smollm2", "nll_excess"):
                mean = known[at] if known else 0.0
                half = 0.13 if known else 0.0
                cell.update(mean=mean, low=round(mean - half, 2), high=round(mean + half, 2))
        run["verdicts"] = [_verdict(name, at) for name in FORMATS]
    table["runs"][1].update(
        adapter="runs/example/adapter",
        trained_on=["data/rows.jsonl"],
        trained_formats=[name for name, group in FORMATS.items() if group == "seen"],
    )
    table["settings"].update(cases_by_kind={"choice": 48, "answer": 48, "reference": 48})
    table.update(
        title="Format compatibility of Example-1B with adapter runs/example/adapter",
        model={
            "name": "Example-1B",
            "digest": "sha256:0",
            "dtype": "bfloat16",
            "native_format": "smollm2",
        },
        summary=[
            {
                "name": "held-out gap closed",
                "value": 0.69,
                "low": 0.52,
                "high": 0.83,
                "n": 40,
                "text": "69 % of the held-out NLL excess is gone (95 % interval 52% to 83%)",
            },
            {
                "name": "native nll change",
                "value": -0.05,
                "low": -0.09,
                "high": -0.01,
                "n": 40,
                "text": "native nll: 1.62 → 1.57, change -0.05 (95 % interval -0.09 to -0.01): better",
            },
            {
                "name": "language drift",
                "value": 0.0,
                "low": 0.0,
                "high": 0.01,
                "n": 40,
                "text": "0 of 432 answers drift into another language (48 too short to score)",
            },
        ],
        budget=[],
        across=[],
        changes=[],
        recall=[],
        confidence=[],
        spread=[],
        grid=_grid(rng),
        samples=[
            sample
            for name in FORMATS
            for at, run in enumerate(("before", "after"))
            for sample in _samples_of(run, name, at)
        ],
    )
    return Report.from_dict(table)


def _verdict(name: str, at: int) -> dict[str, Any]:
    default = ("works", "as good as smollm2: 60% of the choices right against 60%")
    word, reason = _WORDS.get(name, ((("unclear", "may be worse"), default)))[at]
    bad = word != "works"
    train = f"use smollm2, or train in it: harness train --formats {name}"
    return {
        "format": name,
        "word": word,
        "reason": reason,
        "remedy": train if bad else "",
        "evidence": {
            "metric": "on_task",
            "value": 0.4 if bad else 0.6,
            "n": 48,
            "worst_case": "planets-3" if bad else "",
        },
    }


def _grid(rng: random.Random) -> list[dict[str, Any]]:
    """Twelve cases; broken formats give empty answers, degraded ones fail some."""
    rows = []
    for number, question in enumerate((_QUESTION, _CHOICE, "What is 7 + 8?") * 4):
        outcomes = []
        for at in (0, 1):
            letters = []
            for name in FORMATS:
                word = _WORDS.get(name, (("works", ""),) * 2)[at][0]
                chance = {"broken": 0.8, "degraded": 0.4}.get(word, 0.08)
                letters.append(("e" if word == "broken" else "w") if rng.random() < chance else "r")
            outcomes.append("".join(letters))
        case = "planets-3" if not number else f"facts-{number:02}"
        rows.append({"case": case, "kind": "answer", "question": question, "outcomes": outcomes})
    return rows


def _samples_of(run: str, name: str, at: int) -> list[dict[str, Any]]:
    """A free answer, which is bad where the format does not work, and a choice."""
    word, reason = _WORDS.get(name, (("works", ""),) * 2)[at]
    bad = word != "works"
    [answer] = example_samples(run, name, int(not bad))
    if reason.endswith("empty"):
        answer.update(answer="", marks=[], finish="stop", stop="</s>")
        answer["scores"].update(empty=1.0, stopped=1.0, leak=0.0)
    answer.update(expected="picks “Jupiter”, not “Saturn” or “Earth”", right=not bad)
    answer["scores"]["on_task"] = float(not bad)
    choice = {
        **answer,
        "case": "capital-1",
        "kind": "choice",
        "prompt": [
            [text if kind != "content" else _CHOICE, kind] for text, kind in answer["prompt"]
        ],
        "answer": "Bergen" if bad else "Oslo",
        "expected": "Oslo",
        "finish": "stop",
        "stop": "",
        "marks": [],
        "scores": {"choice": float(not bad)},
        "options": [
            {"text": "Oslo", "logprob": -2.1 if bad else -0.7},
            {"text": "Bergen", "logprob": -1.4},
            {"text": "Tromsø", "logprob": -3.6},
        ],
    }
    return [answer, choice]


def example_sweep() -> Sweep:
    """Three rates: too low, good, and one that turns."""
    return Sweep.from_points(points())


def example_comparison(folder) -> Comparison:
    """Two adapters, the second of which runs on in two formats; judged by the gate itself."""
    sides = []
    for at, name in enumerate(("adapter-a", "adapter-b")):
        (folder / name).mkdir(parents=True)
        sides.append(
            to_baseline(
                build_evaluation(
                    _values(at), native="smollm2", groups=FORMATS, formats=list(FORMATS)
                )
            )
        )
    verdicts = compare_baselines(
        *sides,
        {
            name: tolerance
            for name, tolerance in read_thresholds(
                data_dir("eval") / "thresholds.toml"
            ).tolerances.items()
            if name in METRICS
        },
    )
    found = build_comparison(
        *sides, verdicts, (folder / "adapter-a", folder / "adapter-b"), ("adapter-a", "adapter-b")
    )
    samples = [
        sample
        for name in FORMATS
        for pair in zip(
            example_samples("adapter-a", name, 1),
            example_samples("adapter-b", name, 1 - (name in _LOST)),
            strict=True,
        )
        for sample in pair
    ]
    return Comparison.from_dict(
        {
            **vars(found),
            "created": "2026-11-24T18:00:00Z",
            "samples": samples,
            "note": "",
        }
    )


def example_samples(run: str, name: str, good: int) -> list[dict[str, Any]]:
    """One answer in a format; a bad one runs on into the next turn."""
    head, middle, stop = _SCAFFOLDING.get(name, ("USER: ", [["\nASSISTANT: ", "header"]], "</s>"))
    answer, finish = _ANSWERS["good" if good else "leak"]
    marks = (
        [] if good else [{"start": 8, "end": 35, "kind": "leak", "note": "control text of chatml"}]
    )
    return [
        {
            "run": run,
            "format": name,
            "case": "planets-3",
            "prompt": [[head, "header"], [_QUESTION, "content"], *middle],
            "answer": answer,
            "stop": stop if finish == "stop" else "",
            "finish": finish,
            "scores": {"on_task": 1.0, "stopped": float(good), "leak": 1.0 - good, "empty": 0.0},
            "marks": marks,
        }
    ]


_LOST = ("llama3", "mistral-v1")


def _values(at: int) -> dict[tuple[str, str], list[float]]:
    """Eighty cases in each format. The second run gains on_task in held-out formats and loses
    stopped in two of them.

    A case draws the same number in both runs, so that most answers stay as they were; one in
    twenty is drawn again.
    """
    shared, own = random.Random(3), random.Random(at)
    rates = {
        "choice": 0.6,
        "on_task": 0.72,
        "stopped": 0.96,
        "empty": 0.02,
        "leak": 0.02,
        "nll_excess": 0.2,
    }
    found: dict[tuple[str, str], list[float]] = {}
    for name, group in FORMATS.items():
        for metric in METRICS:
            rate = rates[metric]
            if at and name in _LOST and metric in ("stopped", "leak"):
                rate = {"stopped": 0.62, "leak": 0.34}[metric]
            if at and group == "held-out" and metric == "on_task":
                rate += 0.2
            draws = [shared.random() for _ in range(80)]
            draws = [own.random() if own.random() < 0.05 else draw for draw in draws]
            found[name, metric] = [
                round(rate + 0.2 * (draw - 0.5), 4)
                if metric == "nll_excess"
                else float(draw < rate)
                for draw in draws
            ]
    return found


def _cell(name: str, metric: str, value: float, rng: random.Random) -> dict[str, Any]:
    mean = {
        "choice": 0.35 + 0.35 * value,
        "on_task": 0.8 * value,
        "nll_excess": 1.1 * (1 - value),
    }.get(metric, value)
    mean = min(
        1.0,
        max(
            0.0,
            (1 - mean) * rng.uniform(0.2, 0.7)
            if lower_is_better(metric) and metric != "nll_excess"
            else mean + rng.uniform(-0.04, 0.04),
        ),
    )
    return {
        "format": name,
        "group": FORMATS[name],
        "metric": metric,
        "mean": round(mean, 4),
        "low": round(max(0.0, mean - 0.12), 4),
        "high": round(mean + 0.12, 4),
        "n": 40,
        "not_scored": 0,
    }
