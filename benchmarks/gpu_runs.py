"""Parts of benchmarks/gpu.py around whole runs: the card's own speed, a run that is killed and
resumed, and a 7B model loaded from disk.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import shutil
import signal
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.gpu_measure import Bench, clean, peaks, timed
from benchmarks.gpu_models import random_7b, run_config

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "trl",
    "liger-kernel",
    "lm-eval",
    "datasets",
    "triton",
)
#: The run that is killed: its steps, and the step of the checkpoint after which it is killed.
RUN_STEPS, KILLED_AT = 6, 2


def facts(bench: Bench) -> None:
    """Versions, the card, how fast it copies and how fast it multiplies in bfloat16."""
    import torch

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "packages": {name: installed(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "device": bench.device,
    }
    if bench.cuda:
        card = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info()
        found |= {
            "card": card.name,
            "capability": f"{card.major}.{card.minor}",
            "multiprocessors": card.multi_processor_count,
            "memory_GiB": total / 2**30,
            "free_GiB": free / 2**30,
        }
    size, side = (2**31, 8192) if bench.cuda else (2**24, 256)
    source = torch.zeros(size, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    square = torch.randn(side, side, device=bench.device, dtype=torch.bfloat16)
    target.copy_(source), square @ square
    copying, _ = timed(bench, lambda: [target.copy_(source) for _ in range(10)])
    multiplying, _ = timed(bench, lambda: [square @ square for _ in range(20)])
    found |= {
        "copy_GB_s": 10 * 2 * size / copying / 1e9,
        "bfloat16_TFLOP_s": 20 * 2 * side**3 / multiplying / 1e12,
    }
    bench.say(work="facts", **found)


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# ------------------------------------------------------------------ kill and resume


def resume(bench: Bench, model: str) -> None:
    """A run killed by SIGKILL after its first checkpoint, and resumed, ends in the same bytes.

    All runs are processes of their own. Where bytes differ, the first step whose loss differs says
    why: up to the checkpoint it is an operation that gives other sums each time, after it the
    state that was read back.
    """
    kinds = ("supervised", "consistency")
    runs = {
        (kind, name): _run_settings(bench, model, kind, name)
        for kind in kinds
        for name in ("whole", "killed")
    }
    processes = {key: _start(bench, config) for key, config in runs.items()}
    killed = {
        kind: _kill_after_checkpoint(
            processes[kind, "killed"], Path(runs[kind, "killed"].output_dir)
        )
        for kind in kinds
    }
    for kind in kinds:
        processes[kind, "whole"].join()
    again = {kind: _start(bench, runs[kind, "killed"]) for kind in kinds}
    for kind in kinds:
        again[kind].join()
        whole, broken = (Path(runs[kind, name].output_dir) for name in ("whole", "killed"))
        bench.say(
            work="resume",
            model=model,
            objective=kind,
            killed=killed[kind],
            exit_codes=[processes[kind, "whole"].exitcode, again[kind].exitcode],
            **compare_runs(whole, broken),
        )


def _run_settings(bench: Bench, model: str, kind: str, name: str) -> Any:
    from harness.training.config import CheckpointsConfig, EvaluationConfig, ObjectiveConfig

    config = run_config(
        bench,
        model,
        objective=ObjectiveConfig(kind=kind, native="chatml"),  # type: ignore[arg-type]
        checkpoints=CheckpointsConfig(save_steps=KILLED_AT),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
    )
    return replace(
        config,
        output_dir=str(bench.folder / f"{kind}-{name}"),
        optimisation=replace(config.optimisation, max_steps=RUN_STEPS),
    )


def _start(bench: Bench, config: Any) -> Any:
    process: Any = multiprocessing.get_context(bench.start).Process(  # type: ignore[attr-defined]
        target=train_once, args=(config,)
    )
    process.start()
    return process


def train_once(config: Any) -> None:
    """Train or resume, in a process of its own."""
    from harness.training.start import train

    train(config, quiet=True)


def _kill_after_checkpoint(process: Any, folder: Path) -> bool:
    """Kill the run once its first checkpoint is complete. Whether it was still running."""
    while process.is_alive():
        if any(folder.glob(f"checkpoint-{KILLED_AT}/state.json")):
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    process.join()
    return bool(process.exitcode == -signal.SIGKILL)


def compare_runs(whole: Path, broken: Path) -> dict[str, Any]:
    """Whether two runs wrote the same adapter, and the first step whose loss differs."""
    files = [folder / "adapter" / "adapter_model.safetensors" for folder in (whole, broken)]
    if not all(file.is_file() for file in files):
        return {"equal": False, "why": "a run wrote no adapter"}
    losses = [_losses(folder) for folder in (whole, broken)]
    steps = sorted(losses[0].keys() | losses[1].keys())
    differs = [step for step in steps if losses[0].get(step) != losses[1].get(step)]
    return {
        "equal": files[0].read_bytes() == files[1].read_bytes(),
        "first_other_step": differs[0] if differs else None,
        "checkpoint": KILLED_AT,
    }


def _losses(folder: Path) -> dict[int, tuple[float, float]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry["kind"] == "step"]
    return {entry["step"]: (entry["loss"], entry["grad_norm"]) for entry in entries}


# ------------------------------------------------------------------ from disk


def load_from_disk(bench: Bench, model: str) -> None:
    """Write the 7B model to the folder, and load it in nf4 as ``harness train`` does.

    ``host_GiB`` is how much more memory the process had while it loaded.
    """
    import bitsandbytes  # noqa: F401  # where it is missing, the error names it

    from harness.models import load
    from harness.models.quantisation import Quantisation

    folder = bench.folder / "7b-on-disk"
    shutil.copytree(bench.folder / model, folder)
    (folder / "model.safetensors").unlink()
    writing = _write_random(bench, folder)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    bench.say(work="disk", model=model, write_s=writing, written_GB=size / 1e9)
    clean(bench)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loading, _ = timed(
        bench,
        lambda: load(
            str(folder),
            dtype="bfloat16",
            device=bench.device,
            quantisation=Quantisation(load_in_4bit=True),
        ),
    )
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    bench.say(work="load", model=model, load_s=loading, host_GiB=host / 2**20, **peaks(bench))
    shutil.rmtree(folder)


def _write_random(bench: Bench, folder: Path) -> float:
    """Seconds that writing took."""
    made = random_7b(bench)
    return timed(bench, lambda: made.save_pretrained(folder))[0]
