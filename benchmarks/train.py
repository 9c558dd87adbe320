"""Our training step against TRL's SFTTrainer: the same ids, labels, first weights, batches,
optimiser, dtype and threads.

Each side is a process of its own and takes its steps in turn, so that a busy machine is equally
busy for all. Rows are the shipped training set in the common formats, LoRA (r = 16) on all linear
layers, SmolLM2-135M in bfloat16. TRL runs with gradient checkpointing off, as ours has it, and once
more with its own default; "trl-float32" loads the model in float32, which is faster on some CPUs
(ours multiplies in float32 there by itself). The machine's peak is that of a square matrix product,
in bfloat16 and in float32, timed between the steps.
Run: python benchmarks/train.py [--steps 6] [--batch 8] [--threads 2] [--trl-python PYTHON]
The interpreter given by --trl-python needs trl and peft; left out, this one.
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
from pathlib import Path
from typing import Any

MODEL = "SmolLM2-135M-Instruct"
RATE = 5e-4
SIDES = {
    "ours": "ours",
    "trl": "TRL, checkpointing off",
    "trl-default": "TRL, its defaults",
    "trl-float32": "TRL, off, float32",
}
USUAL = ["ours", "trl", "trl-default"]


def spent(work) -> tuple[float, float]:
    """Seconds by the clock and of processor time."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def our_side(folder: Path, plan: dict[str, Any]) -> None:
    import torch

    from harness.models import attach_adapter, load
    from harness.records import Encoded
    from harness.training.config import OptimisationConfig
    from harness.training.data.examples import Example
    from harness.training.step.updater import Updater

    loaded = load(MODEL, dtype="bfloat16", device="cpu")
    attach_adapter(loaded, str(folder / "first"))
    for name, parameter in loaded.model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    updater = Updater(
        loaded,
        loaded.model,
        OptimisationConfig(learning_rate=RATE, max_tokens_per_batch=plan["tokens_per_pass"]),
    )
    batches = [
        [
            Example("", "", Encoded(tuple(ids), tuple(label != -100 for label in labels)))
            for ids, labels in batch
        ]
        for batch in plan["batches"]
    ]
    squares = [torch.randn(2048, 2048).to(dtype) for dtype in (torch.bfloat16, torch.float32)]
    say(ready=True)
    for batch in batches:
        sys.stdin.readline()
        products = [
            spent(lambda square=square: [square @ square for _ in range(4)]) for square in squares
        ]
        losses: list[float] = []
        seconds = spent(
            lambda batch=batch, losses=losses: losses.append(updater.step(batch, RATE).loss)
        )
        say(
            seconds=seconds,
            loss=losses[0],
            peak=[[4 * 2 * 2048**3 / value for value in pair] for pair in products],
            memory=memory(),
        )


def their_side(folder: Path, plan: dict[str, Any], *, checkpointing: bool, narrow: bool) -> None:
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(
        plan["model"], dtype=torch.bfloat16 if narrow else torch.float32
    )
    model = PeftModel.from_pretrained(model, str(folder / "first"), is_trainable=True)
    rows = [
        {"input_ids": ids, "labels": labels} for batch in plan["batches"] for ids, labels in batch
    ]
    settings = SFTConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=len(plan["batches"][0]), num_train_epochs=1, learning_rate=RATE, lr_scheduler_type="constant",
        gradient_checkpointing=checkpointing, bf16=narrow, use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True}, dataloader_num_workers=0,
    )  # fmt: skip

    class InTurn(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            sys.stdin.readline()
            self.clock, self.processor = time.perf_counter(), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            say(
                seconds=[time.perf_counter() - self.clock, time.process_time() - self.processor],
                loss=trainer.last,
                memory=memory(),
            )

    class Watched(SFTTrainer):
        last = 0.0

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(dataset or self.train_dataset)

        def training_step(self, *args: Any, **keywords: Any) -> Any:
            loss = super().training_step(*args, **keywords)
            self.last = float(loss)
            return loss

    tokenizer = AutoTokenizer.from_pretrained(plan["model"])
    trainer = Watched(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[InTurn()],
    )
    say(ready=True)
    trainer.train()


def memory() -> float:
    """The most memory that this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def make_plan(folder: Path, steps: int, batch: int, tokens_per_pass: int) -> dict[str, Any]:
    """Draw the rows as a run would, and write an adapter of random A and zero B that all sides
    begin with.
    """
    from harness.models import describe_base, load, locate
    from harness.training.config import OptimisationConfig, TrainConfig
    from harness.training.data.examples import make_plan as draw
    from harness.training.preparation import prepare
    from harness.training.runs.checkpoints import save_adapter
    from harness.training.step.lora import add_adapter

    config = TrainConfig(optimisation=OptimisationConfig(per_device_train_batch_size=batch))
    ready, loaded = prepare(config), load(MODEL, dtype="bfloat16", device="cpu")
    cache = ready.encode(loaded.tokenizer, None)[0]
    drawn = draw(config, cache)
    examples = [[cache(pair).encoded for pair in drawn.step(number)] for number in range(steps)]
    save_adapter(add_adapter(loaded, config.adapter, 0), folder / "first", describe_base(loaded))
    embedding = loaded.model.get_input_embeddings().weight.numel()
    layers = (
        sum(p.numel() for name, p in loaded.model.named_parameters() if "lora_" not in name)
        - embedding
    )
    plan = {
        "model": locate(MODEL).path,
        "tokens_per_pass": tokens_per_pass,
        "parameters": layers
        + embedding,  # the layers and the output embedding, which is tied to the input's
        "batches": [
            [
                [list(e.ids), [i if t else -100 for i, t in zip(e.ids, e.trained, strict=True)]]
                for e in rows
            ]
            for rows in examples
        ],
    }
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    return plan


class Side:
    """A process that takes one step each time it is asked to."""

    def __init__(self, name: str, python: str, folder: Path, threads: int) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.process = subprocess.Popen(
            [python, __file__, "--side", name, "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.steps: list[dict[str, Any]] = []
        self._read("ready")

    def step(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.steps.append(self._read("seconds"))

    def _read(self, key: str) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{") and key in (facts := json.loads(line)):
                return facts
        raise SystemExit("a side ended early; its messages are above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=6, help="steps of each side; the first is not counted"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens-per-pass", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="no round is begun later than this"
    )
    parser.add_argument("--trl-python", default=sys.executable)
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=USUAL)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        plan = json.loads((options.folder / "plan.json").read_text(encoding="utf-8"))
        if options.side == "ours":
            our_side(options.folder, plan)
        else:
            their_side(
                options.folder,
                plan,
                checkpointing=options.side == "trl-default",
                narrow=options.side != "trl-float32",
            )
        return
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(Path(name), options.steps, options.batch, options.tokens_per_pass)
        sides = {
            key: Side(
                key,
                sys.executable if key == "ours" else options.trl_python,
                Path(name),
                options.threads,
            )
            for key in SIDES
            if key == "ours" or key in options.sides
        }
        latest = time.monotonic() + 60 * options.minutes
        for number in range(options.steps):
            if time.monotonic() > latest:
                break
            for side in sides.values():
                side.step()
            print(
                f"step {number + 1}: "
                + ", ".join(
                    f"{key} {side.steps[-1]['seconds'][0]:.1f} s ({side.steps[-1]['seconds'][1]:.1f} s of processor time), loss {side.steps[-1]['loss']:.4f}"
                    for key, side in sides.items()
                ),
                flush=True,
            )
        for side in sides.values():
            side.process.kill()
            side.process.wait()
    if len(sides["ours"].steps) < 2:
        raise SystemExit("one step a side is too little for a ratio: give it more --minutes")
    report(plan, {key: side.steps for key, side in sides.items()}, options.threads)


def report(plan: dict[str, Any], steps: dict[str, list[dict[str, Any]]], threads: int) -> None:
    shown = {key: title for key, title in SIDES.items() if key in steps}
    plan["batches"] = plan["batches"][: len(steps["ours"])]
    supervised = [
        sum(label != -100 for _, labels in batch for label in labels[1:])
        for batch in plan["batches"]
    ]
    tokens = [sum(len(ids) for ids, _ in batch) for batch in plan["batches"]]
    print(
        f"\n{len(supervised)} steps, the first not counted; {sum(tokens)} tokens, {sum(supervised)} supervised; {threads} threads; medians of steps taken in turn"
    )
    for kind, clock in enumerate(("by the clock", "by processor time")):
        rates = {
            key: [n / step["seconds"][kind] for n, step in zip(supervised, taken, strict=True)][1:]
            for key, taken in steps.items()
        }
        peaks = [
            statistics.median(step["peak"][dtype][kind] for step in steps["ours"][1:])
            for dtype in (0, 1)
        ]
        bound, wide = (peak / (4 * plan["parameters"]) for peak in peaks)
        print(
            f"\n{clock}: matmul {peaks[0] / 1e9:.0f} GFLOP/s in bfloat16, {peaks[1] / 1e9:.0f} in float32; "
            f"bounds {bound:.0f} and {wide:.0f} tokens/s (4 × {plan['parameters'] / 1e6:.1f} M FLOP a token)"
        )
        for key, title in shown.items():
            ratio = statistics.median(
                ours / theirs for ours, theirs in zip(rates["ours"], rates[key], strict=True)
            )
            middle = statistics.median(rates[key])
            every = statistics.median(
                n / step["seconds"][kind]
                for n, step in list(zip(tokens, steps[key], strict=True))[1:]
            )
            print(
                f"  {title:24} {middle:7.1f} supervised tokens/s ({middle / bound:.0%} and {middle / wide:.0%} of the bounds), {every:7.1f} tokens/s ({every / bound:.0%} and {every / wide:.0%}); ours is {ratio:.2f} times as fast"
            )
    print()
    for key, title in shown.items():
        apart = max(
            abs(a["loss"] - b["loss"]) for a, b in zip(steps["ours"], steps[key], strict=True)
        )
        print(
            f"{title:24} peak memory {steps[key][-1]['memory']:.2f} GiB, largest difference of a step's loss {apart:.4f} nats"
        )


if __name__ == "__main__":
    main()
