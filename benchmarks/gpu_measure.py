"""How benchmarks/gpu.py measures time, memory and the share of time in which the card computes."""

from __future__ import annotations

import gc
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def show(**facts: object) -> None:
    """Print a line of results."""
    print(json.dumps(facts), flush=True)


@dataclass(frozen=True)
class Bench:
    """Where the parts work, on which device, and how much each of them does."""

    folder: Path
    device: str
    rehearse: bool
    start: str = "spawn"
    """How processes begin. A rehearsal forks them, which imports libraries once; CUDA survives no
    fork."""
    say: Callable[..., None] = show

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def warm(self) -> int:
        """Steps, the first, that are not counted."""
        return 1 if self.rehearse else 3

    @property
    def steps(self) -> int:
        """Steps that are counted."""
        return 1 if self.rehearse else 5

    @property
    def profiled(self) -> int:
        """Steps after those, under the profiler."""
        return 1 if self.rehearse else 2

    @property
    def conversations(self) -> int:
        """Conversations of a step."""
        return 2 if self.rehearse else 8

    @property
    def all_steps(self) -> int:
        return self.warm + self.steps + self.profiled


def synchronize(bench: Bench) -> None:
    import torch

    if bench.cuda:
        torch.cuda.synchronize()


def timed(bench: Bench, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds by the clock until the device has ended too, and what ``work`` returned."""
    synchronize(bench)
    began = time.perf_counter()
    found = work()
    synchronize(bench)
    return time.perf_counter() - began, found


def clean(bench: Bench) -> None:
    """Give back all memory that is not used, and begin to count its peak here."""
    import torch

    gc.collect()
    if bench.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks(bench: Bench) -> dict[str, float]:
    """The most memory since ``clean``, in GiB; on a CPU that of the process since it began."""
    import torch

    if not bench.cuda:
        return {"process_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    return {
        "allocated_GiB": torch.cuda.max_memory_allocated() / 2**30,
        "reserved_GiB": torch.cuda.max_memory_reserved() / 2**30,
    }


class Kernels:
    """Counts the kernels of a block, and the seconds in which at least one of them ran.

    On a CPU its operators stand in for kernels, so that the counting is rehearsed.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.count, self.seconds = 0, 0.0

    def __enter__(self) -> Kernels:
        from torch.profiler import ProfilerActivity, profile

        synchronize(self.bench)
        activity = ProfilerActivity.CUDA if self.bench.cuda else ProfilerActivity.CPU
        self.profile = profile(activities=[activity])
        self.profile.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        import torch

        synchronize(self.bench)
        self.profile.__exit__(*raised)
        kind = torch.autograd.DeviceType.CUDA if self.bench.cuda else torch.autograd.DeviceType.CPU
        events = self.profile.profiler.kineto_results.events()  # type: ignore[union-attr]
        spans = [
            (event.start_ns(), event.start_ns() + event.duration_ns())
            for event in events
            if event.device_type() == kind and not event.is_user_annotation()
        ]
        self.count, self.seconds = len(spans), covered(spans) / 1e9


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """The length that intervals cover together: what overlaps counts once."""
    total, reached = 0, -1
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def step_facts(
    bench: Bench, rows: Sequence[Any], seconds: Sequence[float], kernels: Kernels
) -> dict[str, Any]:
    """Speed and busy share from the seconds of each step, the first ones included.

    ``kernels`` are those of the steps that follow. They are divided by the median of the steps
    without the profiler, which makes a step longer and a kernel not.
    """
    counted = list(zip(rows, seconds, strict=False))[bench.warm : bench.warm + bench.steps]
    tokens = [sum(len(ids) for ids, _ in batch) for batch, _ in counted]
    supervised = [
        sum(label != -100 for _, labels in batch for label in labels[1:]) for batch, _ in counted
    ]
    times = [taken for _, taken in counted]
    median = statistics.median(times)
    return {
        "tokens": sum(tokens),
        "tokens_s": statistics.median(n / t for n, t in zip(tokens, times, strict=True)),
        "supervised_s": statistics.median(n / t for n, t in zip(supervised, times, strict=True)),
        "median_step_s": median,
        "steps_s": list(seconds),
        "busy": kernels.seconds / bench.profiled / median if kernels.count else None,
        "kernels_a_step": kernels.count / bench.profiled,
        **peaks(bench),
    }
