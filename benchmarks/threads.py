"""How OpenMP threads that spin while they wait slow training and evaluation down beside other work.

After a parallel region, and at each barrier, a thread waits busily for the others before it sleeps.
On a machine whose cores are all taken it then burns the time that the one it waits for would need.
How long it spins is an environment variable that the runtime reads once, when it is loaded, so each
setting has a process of its own. Two works on SmolLM2-135M, alone, beside one and beside two busy
processes (endless Python loops, started and killed here):

- train: the first optimiser steps of docs/recipes/smollm2-cpu.toml, forwards, backwards and update
- eval: an evaluation as ``harness eval`` runs it, into an empty folder each time

A process imports, loads the model and does its work once before it is timed; only the work is
timed. The settings take turns in each round; the table has medians. The runtime's own setting is a
row without a variable: the caller's variables are taken out, and torch is imported before the
harness, so that nothing else can set one.

A measurement beside which other processes used the cores (Linux tells) is made again, at most
twice.
Run: python benchmarks/threads.py [--works train eval] [--rounds 3] [--minutes 60]
Another runtime: --settings "LD_PRELOAD=FILE" "LD_PRELOAD=FILE KMP_BLOCKTIME=1" (a library's path)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "docs" / "recipes" / "smollm2-cpu.toml"
MODEL = "SmolLM2-135M-Instruct"
WORKS = ("train", "eval")
Found = dict[str, float]
Measured = dict[tuple[str, int], list[Found]]

SETTINGS = (
    "",
    "GOMP_SPINCOUNT=2000",
    "GOMP_SPINCOUNT=20000",
    "GOMP_SPINCOUNT=200000",
    "OMP_WAIT_POLICY=PASSIVE",
)
VARIABLES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY", "OMP_WAIT_POLICY")
LOADS = {0: "idle", 1: "beside one busy process", 2: "beside two"}
#: Of a core, used by processes that are not ours: more than this is a disturbed measurement.
DISTURBED = 0.15


def training(options: argparse.Namespace) -> Callable[[], object]:
    """The first steps of the recipe, the same ones each time it is called."""
    from harness.models import load
    from harness.training.config import read_config
    from harness.training.data.examples import make_plan
    from harness.training.preparation import prepare
    from harness.training.step.lora import add_adapter
    from harness.training.step.updater import Updater

    config = read_config(RECIPE)
    loaded = load(config.model, dtype=config.dtype, device="cpu")
    cache, _ = prepare(config).encode(loaded.tokenizer)
    plan = make_plan(config, cache)
    steps = [[cache(pair) for pair in plan.step(number)] for number in range(options.steps)]
    updater = Updater(loaded, add_adapter(loaded, config.adapter, 0), config.optimisation)
    rate = config.optimisation.learning_rate
    return lambda: [updater.step(step, rate) for step in steps]


def evaluation(options: argparse.Namespace) -> Callable[[], object]:
    """An evaluation of a few cases of each kind in a few formats."""
    from harness.evaluation.run import run_job
    from harness.evaluation.settings import EvalJob
    from harness.models import load

    loaded = load(MODEL, device="cpu")

    def work() -> None:
        with tempfile.TemporaryDirectory() as out:
            formats = tuple(options.formats)
            job = EvalJob(model=MODEL, formats=formats, limit=options.limit, out=Path(out))
            run_job(job, loaded=loaded, quiet=True)

    return work


def serve(options: argparse.Namespace) -> None:
    """A process of one setting: works each time a line comes in, and says how long it took."""
    import torch

    work = {"train": training, "eval": evaluation}[options.work](options)
    work()
    threads, version = torch.get_num_threads(), torch.__version__
    print(json.dumps({"threads": threads, "torch": version}), flush=True)
    for _ in sys.stdin:
        clock, processor = time.perf_counter(), time.process_time()
        work()
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        print(json.dumps({"seconds": clock, "processor": processor}), flush=True)


class Worker:
    """A process of one setting, killed when it takes too long, and started again when needed."""

    def __init__(self, work: str, setting: str, options: argparse.Namespace) -> None:
        self.work, self.setting, self.options = work, setting, options
        self.process: subprocess.Popen[str] | None = None
        self.facts: dict[str, Any] = {}

    def start(self) -> subprocess.Popen[str]:
        if self.process is None:
            kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
            given = dict(pair.split("=", 1) for pair in self.setting.split())
            search = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
            own = {"PYTHONPATH": search, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            steps, limit = str(self.options.steps), str(self.options.limit)
            sizes = ["--steps", steps, "--limit", limit, "--formats", *self.options.formats]
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--work", self.work, *sizes],
                env={**kept, **own, **given},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.facts = self.read("threads") or {}
            if not self.facts:
                raise SystemExit(f"{named(self.setting)}: the process ended, see above")
        return self.process

    def __call__(self) -> Found | None:
        """Do the work once. None: it took too long."""
        process = self.start()
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
        timer = threading.Timer(self.options.longest, process.kill)
        timer.start()
        try:
            found = self.read("seconds")
        finally:
            timer.cancel()
        if found is None:
            self.end()
        return found

    def read(self, key: str) -> dict[str, Any] | None:
        assert self.process and self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{") and key in (facts := json.loads(line)):
                return facts
        return None

    def end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None


class Busy:
    """This many endless loops beside us."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> list[int]:
        loop = [sys.executable, "-c", "while True: pass"]
        self.processes = [subprocess.Popen(loop) for _ in range(self.count)]
        return [process.pid for process in self.processes]

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def processor_seconds(pids: list[int]) -> tuple[float, float]:
    """Used so far by all processes of the machine, and by these; 0 where there is no /proc."""
    if not Path("/proc/stat").is_file():
        return 0.0, 0.0
    user, nice, system, _, _, irq, softirq = Path("/proc/stat").read_text().split()[1:8]
    everyone = sum(map(int, (user, nice, system, irq, softirq)))
    ours = 0
    for file in (Path(f"/proc/{pid}/stat") for pid in pids):
        if file.is_file():  # a process that took too long has gone
            fields = file.read_text().rpartition(")")[2].split()
            ours += int(fields[11]) + int(fields[12])
    ticks = os.sysconf("SC_CLK_TCK")
    return everyone / ticks, ours / ticks


def used_by_others(pids: list[int], meanwhile: Callable[[], Any]) -> tuple[float, Any]:
    """Cores that other processes used meanwhile, and the result."""
    began, before = time.perf_counter(), processor_seconds(pids)
    found = meanwhile()
    after, took = processor_seconds(pids), time.perf_counter() - began
    return max(0.0, (after[0] - before[0] - after[1] + before[1]) / took), found


def measure(worker: Worker, busy: list[int]) -> Found:
    """One measurement: seconds, processor seconds, cores that others used, load average.

    It begins when others have left the cores alone for two seconds, or after a minute.
    """
    pids, latest = [*busy, os.getpid(), worker.start().pid], time.monotonic() + 60
    while time.monotonic() < latest:
        if used_by_others(pids, lambda: time.sleep(2))[0] <= DISTURBED:
            break
    load = os.getloadavg()[0]
    others, found = used_by_others(pids, worker)
    if found is None:
        return {"seconds": float("inf"), "processor": 0.0, "others": 0.0, "load": load}
    return {**found, "others": others, "load": load}


def undisturbed(worker: Worker, busy: list[int]) -> Found:
    """The first measurement that nothing disturbed, else the least disturbed of three."""
    tries: list[Found] = []
    while not tries or (tries[-1]["others"] > DISTURBED and len(tries) < 3):
        tries.append(measure(worker, busy))
    return {**min(tries, key=lambda found: found["others"]), "tries": len(tries)}


def named(setting: str) -> str:
    return setting or "none (the runtime's own)"


def measure_work(work: str, options: argparse.Namespace) -> Measured:
    """All measurements of a work, by setting and number of busy processes."""
    workers = {setting: Worker(work, setting, options) for setting in options.settings}
    found: Measured = {}
    latest = time.monotonic() + 60 * options.minutes / len(options.works)
    try:
        for worker in workers.values():
            worker.start()
        facts = next(iter(workers.values())).facts
        print(f"{work}: torch {facts['torch']}, {facts['threads']} threads", flush=True)
        for number in range(options.rounds):
            turn = number % len(workers)
            order = [*workers][turn:] + [*workers][:turn]
            for load in options.loads:
                if number and time.monotonic() > latest:
                    break
                with Busy(load) as busy:
                    for setting in order:
                        one = undisturbed(workers[setting], busy)
                        found.setdefault((setting, load), []).append(one)
                        print(
                            f"{work}, round {number + 1}, {load} busy, {named(setting)}: "
                            f"{one['seconds']:.2f} s, {one['processor']:.2f} s of processor time, "
                            f"others {one['others']:.2f} cores, load {one['load']:.1f}, "
                            f"tries {one['tries']}",
                            flush=True,
                        )
    finally:
        for worker in workers.values():
            worker.end()
    return found


def table(results: dict[str, Measured], options: argparse.Namespace) -> str:
    """Medians as Markdown, each with its ratio to the first setting without busy processes."""
    heads = [LOADS.get(load, f"beside {load}") for load in options.loads]
    lines = [f"| work | setting | {' | '.join(heads)} |", "| --- | --- |" + " ---: |" * len(heads)]
    for work, found in results.items():
        times = {at: [one["seconds"] for one in many] for at, many in found.items()}
        middle = {at: statistics.median(many) for at, many in times.items()}
        base = middle[options.settings[0], options.loads[0]]
        for setting in options.settings:
            cells = []
            for load in options.loads:
                seconds = middle[setting, load]
                cells.append(f"{seconds:.2f} s ({seconds / base:.2f})")
                if seconds == float("inf"):
                    cells[-1] = f"> {options.longest:.0f} s"
            shown = f"`{setting}`" if setting else named(setting)
            lines.append(f"| {work} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), metavar="'NAME=VALUE …'")
    parser.add_argument("--loads", nargs="+", type=int, default=list(LOADS), help="busy processes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60.0, help="no new round is begun later")
    parser.add_argument("--longest", type=float, default=240.0, help="seconds for one measurement")
    parser.add_argument("--steps", type=int, default=2, help="optimiser steps of train")
    parser.add_argument("--limit", type=int, default=3, help="cases of each kind of eval")
    parser.add_argument("--formats", nargs="+", default=["smollm2", "chatml", "alpaca-stanford"])
    parser.add_argument("--work", choices=WORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        serve(options)
        return
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", flush=True)
    results = {work: measure_work(work, options) for work in options.works}
    every = [one for found in results.values() for many in found.values() for one in many]
    fewest = min(len(many) for found in results.values() for many in found.values())
    disturbed = sum(one["others"] > DISTURBED for one in every)
    print(f"\n{table(results, options)}\n")
    print(
        f"Medians of at least {fewest} measurements; in brackets the ratio to a work's first cell. "
        f"{disturbed} of {len(every)} stayed disturbed (others used more "
        f"than {DISTURBED} cores)."
    )


if __name__ == "__main__":
    main()
