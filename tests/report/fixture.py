"""A report of any size, made from a seed."""

from __future__ import annotations

import random
from itertools import cycle
from typing import Any

from harness.metrics.registry import METRICS
from harness.report.document import SCHEMA, Report


def make(
    formats: int = 16, runs: int = 2, samples: int = 4, answer: str = "An answer.", seed: int = 0
) -> dict[str, Any]:
    """The JSON table of a report with random numbers in every cell."""
    rng = random.Random(seed)
    ids = [f"format-{i:02}" for i in range(formats)]
    groups = {
        name: "native" if i == 0 else "seen" if i < formats // 2 else "held-out"
        for i, name in enumerate(ids)
    }
    labels = ["before", "after"][:runs]
    return {
        "schema": SCHEMA,
        "title": "Format compatibility of Toy",
        "created": "2026-11-23T18:00:00Z",
        "model": {"name": "Toy", "digest": "sha256:0", "dtype": "float32", "native_format": ids[0]},
        "environment": {"harness": "0.1.0", "python": "3.11"},
        "settings": {"cases": 40, "seed": 0},
        "formats": [
            {
                "id": name,
                "family": "toy",
                "group": groups[name],
                "digest": "sha256:1",
                "origin": "ours",
                "stops": ["</s>"],
                "example": [["<user>", "header"], ["Hi", "content"]],
            }
            for name in ids
        ],
        "runs": [
            {
                "label": label,
                "adapter": None,
                "cells": [
                    _cell(name, groups[name], metric, rng) for name in ids for metric in METRICS
                ],
                "verdicts": _verdicts(ids, rng),
            }
            for label in labels
        ],
        "summary": [
            {
                "name": "held-out gap closed",
                "value": 0.7,
                "low": 0.6,
                "high": 0.8,
                "n": 30,
                "text": "70 % is gone",
            }
        ],
        "spread": [
            {
                "run": "before",
                "metric": "choice",
                "max": 0.9,
                "min": 0.4,
                "mean": 0.7,
                "spread": 0.5,
                "null_low": 0.1,
                "null_high": 0.2,
                "p": 0.0005,
                "formats": formats,
                "n": 40,
            }
        ],
        "across": [_across(label, ids) for label in labels],
        "changes": [
            {
                "format": ids[0],
                "metric": "choice",
                "before": 0.5,
                "after": 0.6,
                "low": -0.1,
                "high": 0.3,
                "p": 0.4,
                "n": 40,
            }
        ],
        "budget": [_budget("before", ids)],
        "recall": [_recall(ids[0])],
        "confidence": [
            {
                "run": label,
                "formats": [_confidence(ids[0])],
                "reliability": [{"confidence": 0.4, "accuracy": 0.5, "n": 9}],
            }
            for label in labels
        ],
        "samples": [
            make_sample(label, name, n, answer)
            for name in ids
            for n in range(samples)
            for label in labels
        ],
        "grid": [
            {
                "case": f"case-{n}",
                "kind": "answer",
                "question": f"Question {n}?",
                "outcomes": ["".join(rng.choice("rrrwenl-") for _ in ids) for _ in labels],
            }
            for n in range(12)
        ],
        "training": {
            "schedule": "cosine",
            "steps": [
                {"step": s, "loss": 2.0 / s, "learning_rate": 1e-4, "sum_lr": s * 1e-4}
                for s in range(1, 30)
            ],
            "checkpoints": [
                {
                    "step": s,
                    "epoch": s / 10,
                    "sum_lr": s * 1e-4,
                    "nll_seen": 1.5,
                    "nll_held_out": 2.0 - s / 50,
                }
                for s in (10, 20)
            ],
            "config": {},
        },
    }


def report(**options: Any) -> Report:
    """The same as a Report."""
    return Report.from_dict(make(**options))


def _cell(name: str, group: str, metric: str, rng: random.Random) -> dict[str, Any]:
    mean = round(rng.random(), 4)
    return {
        "format": name,
        "group": group,
        "metric": metric,
        "mean": mean,
        "low": max(0.0, mean - 0.1),
        "high": mean + 0.1,
        "n": 40,
        "not_scored": 2,
    }


def _verdicts(ids: list[str], rng: random.Random) -> list[dict[str, Any]]:
    words = rng.sample(["works", "degraded", "broken", "unclear", "untestable"], k=5)
    return [
        {
            "format": name,
            "word": word,
            "reason": "a reason",
            "remedy": "" if word == "works" else f"train in it: harness train --formats {name}",
            "evidence": {
                "metric": "on_task",
                "value": round(rng.random(), 2),
                "n": 40,
                "worst_case": "case-1",
            },
        }
        for name, word in zip(ids, cycle(words), strict=False)
    ]


def _recall(name: str) -> dict[str, Any]:
    numbers = {
        "train": 0.2,
        "null": 0.1,
        "excess": 0.1,
        "low": 0.0,
        "high": 0.2,
        "n_train": 24,
        "n_null": 24,
    }
    return {
        "run": "after",
        "format": name,
        "group": "native",
        "metric": "nv_recall@50%",
        "note": "few",
        **numbers,
    }


def _across(run: str, ids: list[str]) -> dict[str, Any]:
    numbers = dict.fromkeys(
        ("avg", "low", "high", "max", "min", "spread", "sat", "cps", "pss", "consistency", "sees"),
        0.5,
    )
    return {
        "run": run,
        "metric": "choice",
        "formats": len(ids),
        "n": 40,
        **numbers,
        "sensitivity": None,
        "top": None,
        "p": 0.01,
        "best": [ids[0], 0.9, 0.8, 1.0],
        "worst": None,
    }


def _budget(run: str, ids: list[str]) -> dict[str, Any]:
    value = {"value": 0.5, "low": 0.4, "high": 0.6}
    found = {
        "goal": "best",
        "metric": "choice",
        "format": ids[0],
        **value,
        "n": 20,
        "searched_value": 0.9,
        "searched_n": 10,
    }
    row = {
        "run": run,
        "metric": "choice",
        "items": 40,
        "formats": len(ids),
        "cells": 64,
        "mean": value,
        "spread": value,
        "quantiles": {"5%": value, "95%": value},
    }
    rows = [{**row, "by_format": {name: [value, 4] for name in ids}}]
    return {
        "run": run,
        "cells": 64,
        "total": 640,
        "rows": rows,
        "found": [found],
        "text": ["choice: an estimate"],
    }


def _confidence(name: str) -> dict[str, Any]:
    return {
        "format": name,
        "brier": 0.5,
        "ece": 0.1,
        "overconfidence": 0.05,
        "accuracy": 0.6,
        "n": 40,
    }


def make_sample(run: str, name: str, n: int, answer: str) -> dict[str, Any]:
    """One answer of a run to a case."""
    prompt = [["<user>", "header"], ["Hi", "content"]]
    marks = [{"start": 0, "end": 2, "kind": "leak", "note": "control text"}]
    return {
        "run": run,
        "format": name,
        "case": f"case-{n}",
        "prompt": prompt,
        "answer": answer,
        "stop": "</s>",
        "finish": "stop",
        "scores": {"on_task": float(n % 2 == 0), "leak": None},
        "marks": marks,
        "expected": "says “An answer”",
        "right": n % 2 == 0,
    }
