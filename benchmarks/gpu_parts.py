"""The parts of benchmarks/gpu.py, in the order in which they run: those that matter most first."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from benchmarks.gpu_measure import Bench


@dataclass(frozen=True)
class Part:
    """One measurement: the process it shares, its function, and how long it should take.

    A part is stopped after twice its ``seconds``. Parts of the same ``group`` that follow each
    other share a process, so that libraries are imported once; peers never share one with us.
    """

    name: str
    group: str
    function: str
    seconds: float
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        return str(self.arguments.get("model", ""))

    def run(self, bench: Bench) -> None:
        module, _, name = self.function.partition(":")
        getattr(import_module(f"benchmarks.{module}"), name)(bench, **self.arguments)


def parts_of(model: str) -> list[Part]:
    """All comparisons of one model, our side first."""
    large = model == "7b"

    def part(
        name: str, group: str, function: str, seconds: tuple[float, float], **arguments: Any
    ) -> Part:
        """``seconds`` are those of the 7B model and of the small one."""
        arguments["model"] = model
        expected = seconds[0] if large else seconds[1]
        return Part(f"{model}-{name}", f"{model}-{group}", function, expected, arguments)

    train, evaluate = "gpu_training", "gpu_evaluation"
    capped = [part("train-ours-12gb", "ours", f"{train}:ours", (24, 0), cap=True)] if large else []
    again = {"checkpointing": True}
    return [
        *capped,
        part("train-ours", "ours", f"{train}:ours", (16, 8)),
        part("score-ours", "ours", f"{evaluate}:score_ours", (10, 6)),
        part("generate-ours", "ours", f"{evaluate}:generate_ours", (14, 8)),
        part("train-peft", "peers", f"{train}:bare_loop", (20, 10)),
        part("train-trl-recomputing", "peers", f"{train}:trl", (18, 8), **again),
        part("train-trl", "peers", f"{train}:trl", (16, 7)),
        part("score-lm-eval", "peers", f"{evaluate}:score_lm_eval", (20, 12)),
        part("generate-transformers", "peers", f"{evaluate}:generate_hf", (28, 18)),
        part("train-trl-padding-free", "peers", f"{train}:trl", (14, 7), padding_free=True),
        part("generate-continuous", "peers", f"{evaluate}:generate_continuous", (14, 10)),
        part("train-trl-liger", "liger", f"{train}:trl", (20, 14), liger=True),
        part("train-trl-liger-recomputing", "liger", f"{train}:trl", (14, 7), liger=True, **again),
    ]


PARTS = [
    Part("rows", "ours", "gpu_models:prepare", 18),
    Part("facts", "ours", "gpu_runs:facts", 4),
    *parts_of("7b"),
    *parts_of("small"),
    Part("resume", "runs", "gpu_runs:resume", 40, {"model": "small"}),
    Part("agreement", "runs", "gpu_evaluation:agreement", 16, {"model": "small"}),
    Part("7b-from-disk", "runs", "gpu_runs:load_from_disk", 30, {"model": "7b"}),
]
#: Whatever is chosen, the others read what this one writes.
FIRST = PARTS[0]


def chosen(parts: str, models: str) -> list[Part]:
    """The parts by name, or by the beginning of it. Raises SystemExit for a name that none has."""
    names = [name for name in parts.split(",") if name]
    for name in names:
        if not any(part.name.startswith(name) for part in PARTS):
            raise SystemExit(f"no part {name!r}; there are {', '.join(p.name for p in PARTS)}")
    return [
        part
        for part in PARTS
        if part is FIRST
        or (
            (not names or any(part.name.startswith(name) for name in names))
            and (not part.model or part.model in models.split(","))
        )
    ]
