"""Training, scoring and generation on a GPU: our speed and memory beside other libraries'.

One script, at most eight minutes on a card of the class of an H100, without network. It needs this
repository, torch, transformers, peft and bitsandbytes; trl, datasets, lm-eval and liger-kernel for
the comparisons with them (a folder of unpacked wheels on PYTHONPATH will do). Weights are random,
in the shape of SmolLM2-135M ("small") and of Mistral-7B ("7b"); rows are the shipped training set
in the common formats, eight conversations a step, the same rows for all.

Each part runs in a process that ends with it if it fails, hangs or is killed: such a part leaves a
line that says so, and the next one begins. The parts that matter most come first. No part begins
after --seconds, and none runs longer.

Results are JSON, a line at a time, with "part" and "status": measured, failed, missing (a library
is not installed), timed out, died, or skipped (no time was left). Last come the goals, a line each,
and a table of them.

Run: python -m benchmarks.gpu [--out FILE] [--parts PART,…] [--models small,7b] [--seconds 480]
Try it on a CPU: python -m benchmarks.gpu --rehearse
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu_goals import summarise, table
from benchmarks.gpu_measure import Bench
from benchmarks.gpu_parts import Part, chosen
from benchmarks.gpu_worker import Worker, preload


class Results:
    """Writes each line at once, and keeps all of them."""

    def __init__(self, out: TextIO, **always: Any) -> None:
        self.out = out
        self.always = always
        self.began = time.monotonic()
        self.lines: list[dict[str, Any]] = []

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def add(self, part: str, **facts: Any) -> None:
        line = {"part": part, "at": round(self.seconds, 2), **self.always, **rounded(facts)}
        self.lines.append(line)
        print(json.dumps(line, default=str), file=self.out, flush=True)


def rounded(value: Any) -> Any:
    """Floats with six digits, in whatever they are."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    return value


def run_parts(
    parts: Sequence[Part], bench: Bench, results: Results, seconds: float, plant: dict[str, str]
) -> None:
    """Run the parts one after another. After one that did not end well a new process takes over."""

    def start() -> Worker:
        return Worker(bench, plant)

    spare: Worker | None = None
    worker, group = start(), parts[0].group
    try:
        for part in parts:
            left = seconds - results.seconds
            if left < min(5.0, part.seconds):
                results.add(part.name, status="skipped", why="no time left")
                continue
            if worker is None or part.group != group:
                if worker:
                    worker.end()
                worker, spare, group = spare or start(), None, part.group
            spare = spare or start()
            began, well = results.seconds, True
            for line in worker.run(part, limit_of(part, bench, plant), left):
                well = well and line["status"] in ("measured", "missing")
                results.add(part.name, model=line.pop("model", part.model), **line)
            results.add(part.name, status="ended", seconds=results.seconds - began)
            if not well:
                worker.end()
                worker = None
    finally:
        for each in (worker, spare):
            if each:
                each.end()


def limit_of(part: Part, bench: Bench, plant: dict[str, str]) -> float:
    """Seconds after which a part is stopped."""
    if plant.get(part.name) == "hang":
        return 1.0
    return 600.0 if bench.rehearse else 2 * part.seconds


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="append results here, not to standard output")
    parser.add_argument("--parts", default="", help="only parts whose names begin so: a,b")
    parser.add_argument("--models", default="small,7b")
    parser.add_argument("--seconds", type=float, default=480.0, help="of the whole run")
    parser.add_argument(
        "--folder", type=Path, help="for models and runs; a temporary one if left out"
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--start", choices=("fork", "spawn"), help=argparse.SUPPRESS)
    parser.add_argument("--plant", default="", help=argparse.SUPPRESS)  # PART=raise|hang|die,…
    return parser.parse_args(arguments)


def pick_device(rehearse: bool) -> str:
    """``cpu`` for a rehearsal, else ``cuda``. This process imports no torch, and forks none."""
    if rehearse:
        return "cpu"
    ask = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    nodes = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")]
    if not nodes and subprocess.run([sys.executable, "-c", ask], check=False).returncode:
        raise SystemExit(
            "no NVIDIA card here; --rehearse runs all parts on the CPU, with tiny models"
        )
    return "cuda"


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(arguments)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    plant = dict(pair.split("=") for pair in options.plant.split(",") if pair)
    opened: Any = contextlib.nullcontext(sys.stdout)
    if options.out:
        opened = options.out.open("a", encoding="utf-8")
    with opened as out, tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        os.environ.setdefault("HARNESS_CACHE", str(folder / "cache"))
        start = options.start or ("fork" if options.rehearse else "spawn")
        bench = Bench(folder, pick_device(options.rehearse), options.rehearse, start)
        if options.rehearse:
            os.environ.setdefault("OMP_NUM_THREADS", "1")
        if start == "fork":
            preload()
        results = Results(out, **({"rehearsal": True} if options.rehearse else {}))
        run_parts(chosen(options.parts, options.models), bench, results, options.seconds, plant)
        summary = summarise(results.lines)
        for line in summary:
            results.add(**line)
    title = "a rehearsal with tiny models on the CPU: these figures say nothing\n"
    text = title * options.rehearse + table(summary)
    print(text, file=sys.stdout if options.out else sys.stderr)


if __name__ == "__main__":
    main()
