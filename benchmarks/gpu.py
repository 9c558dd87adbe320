"""What a GPU makes of our training, scoring and generation, beside the libraries people use.

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
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu_goals import summarise, table
from benchmarks.gpu_measure import Bench, clean


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


# ------------------------------------------------------------------ the process of a part


def serve(pipe: Any, bench: Bench, plant: dict[str, str]) -> None:
    """Run the parts whose names come through ``pipe``, and send their lines, then None."""
    os.setsid()  # so that it is ended with all that it started
    os.dup2(2, 1)  # libraries print; our lines go through the pipe
    if bench.start == "spawn":
        warm_up()
    pipe.send("ready")
    known = {part.name: part for part in PARTS}
    while (name := pipe.recv()) is not None:
        said = replace(bench, say=lambda **facts: pipe.send({"status": "measured", **facts}))
        try:
            misbehave(plant.get(name, ""))
            known[name].run(said)
        except ImportError as error:
            pipe.send({"status": "missing", "library": error.name, "message": str(error)})
        except BaseException as error:
            where = "".join(traceback.format_exception(error))[-3000:]
            facts = {"error": type(error).__name__, "message": str(error)[:600]}
            pipe.send({"status": "failed", **facts, "traceback": where})
        if "torch" in sys.modules:
            clean(bench)  # what this part held is not the next one's burden
        pipe.send(None)


def warm_up() -> None:
    """Import what is slow to import and asks for nothing on the card.

    The process that will serve the next group does so while the present group works.
    """
    import torch  # noqa: F401
    from transformers import LlamaForCausalLM, MistralForCausalLM  # noqa: F401


def misbehave(how: str) -> None:
    """What a test plants: a part that raises, hangs or is killed."""
    if how == "raise":
        raise RuntimeError("planted")
    if how == "hang":
        time.sleep(3600)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)


class Worker:
    """A process for parts, one after another."""

    def __init__(self, bench: Bench, plant: dict[str, str]) -> None:
        context: Any = multiprocessing.get_context(bench.start)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, bench, plant))
        self.process.start()
        theirs.close()
        self.ready = False

    def run(self, part: Part, limit: float, left: float) -> Iterator[dict[str, Any]]:
        """The part's lines; the last one says so if it did not end by itself.

        ``limit`` begins when the process has imported its libraries; ``left`` is what is left of
        the whole run.
        """
        begun = time.monotonic()
        try:
            if not self.ready and self.pipe.poll(left):
                self.ready = self.pipe.recv() == "ready"
            latest = min(time.monotonic() + limit, begun + left)
            self.pipe.send(part.name)
            while self.pipe.poll(max(0.0, latest - time.monotonic())):
                if (line := self.pipe.recv()) is None:
                    return
                yield line
            yield {"status": "timed out", "limit_s": round(min(limit, left), 1)}
        except (EOFError, OSError):
            self.process.join(5)
            yield {"status": "died", "exit_code": self.process.exitcode}

    def end(self) -> None:
        """End the process and all that it started."""
        if self.process.is_alive() and self.process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()  # should it not have come to its own group yet
        self.process.join()
        self.pipe.close()


# ------------------------------------------------------------------ the whole


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


def preload() -> None:
    """Import, before the forks of a rehearsal, what the parts would import each time."""
    warm_up()
    libraries = ("peft", "bitsandbytes", "trl", "datasets", "lm_eval.models.huggingface")
    ours = (
        "harness.training.loop",
        "harness.backends.local.backend",
        "harness.evaluation.requests",
    )
    loaders: Sequence[Callable[[], Any]] = [
        lambda name=name: import_module(name) for name in (*libraries, *ours)
    ]
    for load in loaders:
        with contextlib.suppress(ImportError):
            load()


if __name__ == "__main__":
    main()
