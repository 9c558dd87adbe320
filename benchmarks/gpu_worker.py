"""A process that runs parts of benchmarks/gpu.py, and ends with the part that fails in it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

from benchmarks.gpu_measure import Bench, clean
from benchmarks.gpu_parts import PARTS, Part


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


def preload() -> None:
    """Import, before the forks of a rehearsal, what the parts would import each time."""
    warm_up()
    for name in (
        "peft",
        "bitsandbytes",
        "trl",
        "datasets",
        "lm_eval.models.huggingface",
        "harness.training.loop",
        "harness.backends.local.backend",
        "harness.evaluation.requests",
    ):
        with contextlib.suppress(ImportError):
            import_module(name)


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
