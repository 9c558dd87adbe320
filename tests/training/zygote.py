"""Forks a child for each order from a process that has imported everything: a fresh run at once.

An order is a JSON line {"config": table, "die_at": n or null}; with ``die_at`` the child kills
itself with SIGKILL just before its n-th write, fsync or rename. The answers are the child's process
id when it starts, and its exit code when it has ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

# Imported here and not run: the threads of torch's pools do not survive a fork.
import peft
import safetensors.torch  # noqa: F401
import scipy.optimize  # noqa: F401
import torch
import transformers  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

import harness.evaluation.run
import harness.files
import harness.training.loop
import harness.training.runs.metrics_log
import harness.training.selection.checkpoint_eval
from harness.training.config import parse_config
from harness.training.start import train

EVENTS = [
    (os, "fsync"),
    (Path, "rename"),
    (Path, "replace"),
    (shutil, "rmtree"),
    (harness.training.runs.metrics_log.MetricsLog, "write"),
    (peft.PeftModel, "save_pretrained"),
]


def count_events(die_at: int | None) -> list[int]:
    """Count what touches the disk, and die by SIGKILL before event number ``die_at``."""
    seen = [0]

    def counting(original):
        def call(*args, **kwargs):
            seen[0] += 1
            if seen[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    for home, name in EVENTS:
        setattr(home, name, counting(getattr(home, name)))
    return seen


def child(order) -> None:
    torch.set_num_threads(1)
    seen = count_events(order.get("die_at"))
    try:
        train(parse_config(order["config"]), quiet=True)
    except BaseException as error:
        print(f"child failed: {error!r}", file=sys.stderr, flush=True)
        os._exit(3)
    Path(order["config"]["output_dir"], "events").write_text(str(seen[0]))
    os._exit(0)


if __name__ == "__main__":
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
