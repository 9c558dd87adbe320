"""A comparison of any size, made from a seed."""

from __future__ import annotations

import random
from typing import Any

from harness.metrics.registry import METRICS, headline, lower_is_better
from harness.report.comparison import COMPARISON_SCHEMA, Comparison
from tests.report.fixture import make_sample

LABELS = ("one", "two")


def make_comparison(
    formats: int = 6, metrics: int = 10, samples: int = 2, answer: str = "An answer.", seed: int = 0
) -> dict[str, Any]:
    """A comparison's JSON with random differences and this many pairs of samples a format."""
    rng = random.Random(seed)
    ids = [f"format-{at:02}" for at in range(formats)]
    groups = {
        name: "native" if at == 0 else "seen" if at < formats // 2 else "held-out"
        for at, name in enumerate(ids)
    }
    names = list(dict.fromkeys((*headline(), *METRICS)))[:metrics]
    return {
        "schema": COMPARISON_SCHEMA,
        "title": "one → two",
        "created": "2026-11-24T18:00:00Z",
        **{
            side: {
                "label": label,
                "name": "Toy",
                "model": "sha256:0",
                "adapter": label,
                "environment": {"dtype": "float32"},
            }
            for side, label in zip(("before", "after"), LABELS, strict=True)
        },
        "formats": [{"id": name, "group": group} for name, group in groups.items()],
        "cells": [
            cell(name, metric, round(rng.gauss(0, 0.08), 3))
            for name in [*ids, "held-out formats"]
            for metric in names
        ],
        "samples": [
            make_sample(label, name, n, answer)
            for name in ids
            for n in range(samples)
            for label in LABELS
        ],
        "note": "",
    }


def cell(
    format_id: str, metric: str, delta: float, half: float = 0.05, **changed: Any
) -> dict[str, Any]:
    """One cell with a difference; its outcome follows from it, with a tolerance of a tenth."""
    gain = -delta if lower_is_better(metric) else delta
    outcome = "failed" if gain < -0.1 else "improved" if gain > 0.1 else "passed"
    numbers = {
        "before": 0.5,
        "after": round(0.5 + delta, 3),
        "delta": delta,
        "low": round(delta - half, 3),
        "high": round(delta + half, 3),
        "allowed": 0.1,
    }
    return {
        "format": format_id,
        "metric": metric,
        "outcome": outcome,
        **numbers,
        "n": 80,
        "p": 0.01,
        "why": "",
        "worst_case": "case-1",
        **changed,
    }


def comparison(**options: Any) -> Comparison:
    """The same as a Comparison."""
    return Comparison.from_dict(make_comparison(**options))
