"""Our engine against lm-evaluation-harness and transformers' generate, on the same requests.

Two processes hold the same model in the same dtype with the same number of threads and work in
turn, so neither has the other's memory or caches; each round gives a ratio, and medians are
printed. Four parts:

- scoring: four-option items in several formats; theirs is ``HFLM.loglikelihood`` on the same strings.
- generation: prompts of mixed length that end by themselves; theirs is ``generate`` at several batch sizes, sorted by length.
- whole: an evaluation as ``harness eval`` runs it (planning, rendering, scoring, answers, recall, store, scores, cells);
  theirs are the model's calls alone, ``loglikelihood`` and ``generate_until``, on the same texts.
- growth: our time for 1, 4 and 16 times the same cells.

Needs lm_eval (tox -e bench-evaluate). Run: python -m benchmarks.evaluate [PART ...] [--rounds 3]
[--threads 2] [--items 40]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import statistics
import warnings
from typing import Any

from benchmarks.evaluate_sides import Ours, Side, Theirs

PARTS = ("scoring", "generation", "whole", "growth")


def serve(kind: type[Side], options: argparse.Namespace, pipe: Any) -> None:
    """Run a side's methods as they are called for, and send each result with the peak in MiB."""
    warnings.simplefilter("ignore")
    side = kind(options)
    pipe.send("ready")
    while (call := pipe.recv()) is not None:
        name, *args = call
        with contextlib.redirect_stderr(io.StringIO()):
            found = getattr(side, name)(*args)
        pipe.send((*found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


class Process:
    def __init__(self, kind: type[Side], options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(kind, options, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that a side that dies is noticed
        self.pipe.recv()

    def __call__(self, *call: Any) -> tuple[tuple[float, float], Any, float]:
        self.pipe.send(call)
        return self.pipe.recv()

    def end(self) -> None:
        self.pipe.send(None)
        self.process.join()


def compare(
    name: str,
    unit: str,
    sizes: tuple[int, int],
    ours: list[tuple[float, float]],
    theirs: list[tuple[float, float]],
    memory: tuple[float, float],
) -> None:
    """One line: rates, and the ratio by wall clock and by CPU time, medians and range over the
    rounds.
    """
    (a, b), line = sizes, f"{name}: "
    for index, clock in enumerate(("wall", "CPU")):
        ratios = [
            (a / mine[index]) / (b / other[index]) for mine, other in zip(ours, theirs, strict=True)
        ]
        rate = (
            a / statistics.median(t[index] for t in ours),
            b / statistics.median(t[index] for t in theirs),
        )
        line += f"{clock} {rate[0]:.0f} against {rate[1]:.0f} {unit}/s, ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
    print(f"{line}peak {memory[0]:.0f} against {memory[1]:.0f} MiB", flush=True)


def part_scoring(options: argparse.Namespace, ours: Process, theirs: Process) -> None:
    mine, other = [], []
    ours("scoring", 2), theirs("scoring", 2)
    for _ in range(options.rounds):
        took, picks, peak = ours("scoring", options.items)
        mine.append(took)
        took, peer_picks, peer_peak = theirs("scoring", options.items)
        other.append(took)
    same = sum(a == b for a, b in zip(picks, peer_picks, strict=True))
    count = 4 * len(picks)
    compare(
        f"scoring, {len(picks)} items, {count} requests",
        "requests",
        (count, count),
        mine,
        other,
        (peak, peer_peak),
    )
    print(f"  the same option picked in {same} of {len(picks)}")


def part_generation(options: argparse.Namespace, ours: Process, theirs: Process) -> None:
    ours("generation", 8, 8), theirs("generation", 8, 8)
    for batch in options.batches:
        mine, other = [], []
        for _ in range(options.rounds):
            took, tokens, peak = ours("generation", options.prompts, batch)
            mine.append(took)
            took, peer_tokens, peer_peak = theirs("generation", options.prompts, batch)
            other.append(took)
        name = f"generation, {options.prompts} prompts, {tokens} and {peer_tokens} new tokens, theirs at batch {batch}"
        compare(name, "tokens", (tokens, peer_tokens), mine, other, (peak, peer_peak))


def part_whole(options: argparse.Namespace, ours: Process, theirs: Process) -> None:
    if options.side:
        took, pieces, peak = {"ours": ours, "theirs": theirs}[options.side]("whole", options.limit)
        share = "" if options.side == "ours" else f", share {options.share}"
        print(
            f"whole evaluation, limit {options.limit}, {options.side} alone{share}: {pieces} pieces, {took[0]:.1f} s wall, {took[1]:.1f} s CPU, peak {peak:.0f} MiB",
            flush=True,
        )
        return
    mine, other = [], []
    for _ in range(max(1, options.rounds // 2)):
        took, cells, peak = ours("whole", options.limit)
        mine.append(took)
        took, peer_cells, peer_peak = theirs("whole", options.limit)
        other.append(took)
    compare(
        f"whole evaluation, limit {options.limit}, {cells} and {peer_cells} pieces",
        "pieces",
        (cells, peer_cells),
        mine,
        other,
        (peak, peer_peak),
    )


def part_growth(options: argparse.Namespace, ours: Process, _theirs: Process) -> None:
    base = None
    for factor in (1, 4, 16):
        took, cells, peak = ours("scoring", options.growth * factor)
        base = base or took[1]
        print(
            f"growth {factor}×: {len(cells)} cells, {took[0]:.1f} s wall, {took[1]:.1f} s CPU = {took[1] / base:.1f} × the first, peak {peak:.0f} MiB",
            flush=True,
        )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--formats", type=int, default=8)
    parser.add_argument(
        "--items", type=int, default=40, help="four-option items for scoring, each in every format"
    )
    parser.add_argument(
        "--peer-batch", type=int, default=64, help="lm-evaluation-harness's batch size"
    )
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument(
        "--batches",
        type=int,
        nargs="*",
        default=[8, 32, 64, 128],
        help="batch sizes of transformers' generate",
    )
    parser.add_argument(
        "--limit", type=int, default=8, help="cases of each kind in the whole evaluation"
    )
    parser.add_argument(
        "--recall",
        type=int,
        default=16,
        help="training rows, and as many controls, of its recall (the demo's)",
    )
    parser.add_argument(
        "--side",
        choices=("ours", "theirs"),
        help="whole: one side alone, so that a long comparison can be made in pieces",
    )
    parser.add_argument(
        "--share",
        default="1/1",
        metavar="K/N",
        help="whole: their side does every N-th request from the K-th on; the times of all shares add up",
    )
    parser.add_argument("--growth", type=int, default=5, help="items of the smallest size")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    ours, theirs = Process(Ours, options), Process(Theirs, options)
    for part in options.parts:
        globals()[f"part_{part}"](options, ours, theirs)
    ours.end()
    theirs.end()


if __name__ == "__main__":
    main()
