"""A step of format distillation by the hand-written passes against transformers and peft.

Each side is a process of its own and takes its steps in turn, so that a busy machine is equally
busy for both. The recipe is the demo's with the base as the teacher. The first step is not counted.
Run: python benchmarks/distillation.py [--steps 6] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

SIDES = ("handwritten", "transformers")


def one_side(side: str) -> None:
    """Take a step for each line of stdin, and print what it took."""
    from harness.demo import recipe
    from harness.models import load
    from harness.training.distill.distillation import Distillation
    from harness.training.loop import Trainer
    from harness.training.objective import make_objective
    from harness.training.preparation import prepare

    if side == "transformers":
        Distillation.handwritten = False
    config = recipe()
    config = replace(
        config,
        output_dir=tempfile.mkdtemp(),
        objective=replace(config.objective, teacher_folds=0),
        evaluation=replace(config.evaluation, references=0, recall_rows=0),
    )
    loaded = load(config.model, dtype=config.dtype, device="cpu")
    ready = prepare(config)
    cache, _ = ready.encode(loaded.tokenizer, None)
    trainer = Trainer(config, loaded, cache, "benchmark", None, make_objective(ready, loaded))
    print(json.dumps({"ready": True}), flush=True)
    for number, _ in enumerate(sys.stdin):
        began = time.process_time()
        entry = trainer.step(number, 0.0)
        seconds = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": seconds, "loss": entry.loss, "peak": peak}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        one_side(options.side)
        return
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    command = [sys.executable, __file__, "--side"]
    processes = {
        side: subprocess.Popen(
            [*command, side],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for side in SIDES
    }
    for process in processes.values():
        json.loads(process.stdout.readline())
    steps: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(options.steps + 1):
        for side in SIDES if number % 2 else reversed(SIDES):
            print(file=processes[side].stdin, flush=True)
            steps[side].append(json.loads(processes[side].stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    for side, found in steps.items():
        seconds = " ".join(f"{one['seconds']:.2f}" for one in found[1:])
        losses = " ".join(f"{one['loss']:.4f}" for one in found[1:])
        print(f"{side:12} {seconds} s of processor time; peak {found[-1]['peak']:.2f} GiB")
        print(f"{'':12} losses {losses}")
    pairs = zip(*(found[1:] for found in steps.values()), strict=True)
    ratios = [ours["seconds"] / theirs["seconds"] for ours, theirs in pairs]
    print(f"ratio: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
