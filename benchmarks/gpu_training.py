"""Training parts of benchmarks/gpu.py: our trainer, TRL's SFTTrainer and the bare loop of peft, on
the same rows, with LoRA (r = 16) on all linear layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.gpu_goals import CAP_GIB, CAPPED
from benchmarks.gpu_measure import Bench, Kernels, clean, peaks, step_facts, synchronize, timed
from benchmarks.gpu_models import open_model, read_rows, run_config

STORAGE = {"7b": "nf4", "small": "bfloat16"}


def ours(bench: Bench, model: str, *, cap: bool = False) -> None:
    """Our trainer with its own settings, and with ``cap`` on a card made as small as one of 12 GB.

    With the cap a second line compares the peak with what ``harness train --dry-run`` predicts.
    """
    from harness.training.loop import Trainer
    from harness.training.preparation import prepare, run_digest

    config = run_config(bench, model)
    loaded = open_model(bench, model, STORAGE[model])
    ready = prepare(config)
    cache = ready.encode(loaded.tokenizer, None)[0]
    rows, losses = read_rows(bench), []
    with small_card(bench, CAP_GIB) if cap else ExitStack():
        clean(bench)
        trainer = Trainer(config, loaded, cache, run_digest(ready, loaded.source.digest))

        def step(number: int) -> None:
            losses.append(trainer.step(number, 0.0).loss)

        seconds, kernels = take_steps(bench, step)
        facts = step_facts(bench, rows, seconds, kernels)
        recomputes = any(
            getattr(m, "gradient_checkpointing", False) for m in loaded.model.modules()
        )
        bench.say(
            work="training",
            model=model,
            side="ours",
            variant=CAPPED if cap else "defaults",
            checkpointing=recomputes,
            same_rows=_drawn_tokens(trainer, bench) == _tokens(rows),
            losses=losses,
            **facts,
        )
        if cap:
            bench.say(work="memory", model=model, **compare_with_dry_run(bench, config, recomputes))


def take_steps(bench: Bench, step: Callable[[int], Any]) -> tuple[list[float], Kernels]:
    """The seconds of each step, and the kernels of the last ones."""
    seconds = [timed(bench, lambda at=at: step(at))[0] for at in range(bench.warm + bench.steps)]
    kernels = Kernels(bench)
    with kernels:
        for at in range(bench.warm + bench.steps, bench.all_steps):
            step(at)
    return seconds, kernels


def _tokens(rows: Any) -> list[int]:
    return [sum(len(ids) for ids, _ in batch) for batch in rows]


def _drawn_tokens(trainer: Any, bench: Bench) -> list[int]:
    return [
        sum(len(trainer.cache(pair).encoded.ids) for pair in trainer.plan.step(at))
        for at in range(bench.all_steps)
    ]


@contextmanager
def small_card(bench: Bench, gib: float) -> Iterator[None]:
    """Let torch have ``gib`` GiB in all, and say so to those who ask how much is free."""
    if not bench.cuda:
        yield
        return
    import torch

    whole = torch.cuda.get_device_properties(0).total_memory
    cap = int(gib * 2**30)
    real = torch.cuda.mem_get_info

    def mem_get_info(device: Any = None) -> tuple[int, int]:
        return min(real(device)[0], max(0, cap - torch.cuda.memory_reserved())), cap

    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(cap / whole)
    torch.cuda.mem_get_info = torch.cuda.memory.mem_get_info = mem_get_info
    try:
        yield
    finally:
        torch.cuda.mem_get_info = torch.cuda.memory.mem_get_info = real
        torch.cuda.set_per_process_memory_fraction(1.0)


def compare_with_dry_run(bench: Bench, config: Any, checkpointing: bool) -> dict[str, Any]:
    """What ``harness train --dry-run`` predicts for this device, and what was seen.

    ``seen_GiB`` is what torch reserved and what else this process has on the card, the CUDA
    context; nothing else may run on the card. On a CPU it is the process.
    """
    seen = peaks(bench)
    context = 0.0
    if bench.cuda:
        import torch

        free, total = torch.cuda.cudart().cudaMemGetInfo(0)
        context = (total - free - torch.cuda.memory_reserved()) / 2**30
    from harness.training.plan.dry_run import dry_run

    here = next(
        each
        for each in dry_run(config).memory
        if each.where.startswith("this machine") and each.checkpointing is checkpointing
    )
    parts = {part.name: part.bytes / 2**30 for part in here.parts}
    predicted = here.bytes / 2**30
    measured = seen.get("reserved_GiB", seen.get("process_GiB", 0.0)) + context
    return {
        "checkpointing": checkpointing,
        "predicted_GiB": predicted,
        "predicted_parts_GiB": parts,
        "seen_GiB": measured,
        "context_GiB": context,
        "seen_by_predicted": measured / predicted,
        **seen,
    }


def bare_loop(bench: Bench, model: str) -> None:
    """The loop that a tutorial of peft has: padded rows, a bfloat16 adapter, all logits."""
    import torch
    from peft import LoraConfig, get_peft_model

    loaded = open_model(bench, model, STORAGE[model])
    adapted = get_peft_model(loaded.model, lora_config(LoraConfig), autocast_adapter_dtype=False)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=bench.cuda)
    adapted.train()
    rows = read_rows(bench)
    losses: list[Any] = []
    clean(bench)

    def step(number: int) -> None:
        batch = rows[number]
        width = max(len(ids) for ids, _ in batch)
        ids = [ids + [0] * (width - len(ids)) for ids, _ in batch]
        labels = [labels + [-100] * (width - len(labels)) for _, labels in batch]
        where = {"device": bench.device}
        loss = adapted(
            input_ids=torch.tensor(ids, **where),
            labels=torch.tensor(labels, **where),
            use_cache=False,
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())

    seconds, kernels = take_steps(bench, step)
    bench.say(
        work="training",
        model=model,
        side="peft",
        variant="bare loop",
        losses=[float(loss) for loss in losses],
        **step_facts(bench, rows, seconds, kernels),
    )


def lora_config(kind: Any) -> Any:
    return kind(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def _trl_settings(bench: Bench, model: str, **chosen: Any) -> Any:
    """TRL's settings: ``chosen``, and what all its variants have in common."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(bench.folder / "trl"),
        max_steps=bench.all_steps,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        bf16=True,
        optim="paged_adamw_8bit" if model == "7b" and bench.cuda else "adamw_torch",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        max_length=None,
        use_cpu=not bench.cuda,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_num_workers=0,
        dataloader_pin_memory=bench.cuda,
        **chosen,
    )


def trl(
    bench: Bench,
    model: str,
    *,
    checkpointing: bool = False,
    liger: bool = False,
    padding_free: bool = False,
) -> None:
    """TRL's SFTTrainer: bfloat16, the 8-bit paged optimiser for the 7B model, its own adapter."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTTrainer

    if liger:
        import liger_kernel  # noqa: F401  # else TRL fails later, in other words

    loaded = open_model(bench, model, STORAGE[model])
    rows = read_rows(bench)
    settings = _trl_settings(
        bench,
        model,
        per_device_train_batch_size=len(rows[0]),
        gradient_checkpointing=checkpointing,
        use_liger_kernel=liger,
        padding_free=padding_free,
    )
    seconds: list[float] = []
    losses: list[Any] = []
    kernels = Kernels(bench)

    class Clock(TrainerCallback):
        def on_step_begin(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step == bench.warm + bench.steps:
                kernels.__enter__()
            synchronize(bench)
            self.began = time.perf_counter()

        def on_step_end(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
            synchronize(bench)
            seconds.append(time.perf_counter() - self.began)
            if state.global_step == bench.all_steps:
                kernels.__exit__(None, None, None)

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(dataset or self.train_dataset)

        def training_step(self, *args: Any, **keywords: Any) -> Any:
            loss = super().training_step(*args, **keywords)
            losses.append(loss.detach())
            return loss

    trainer = InOrder(
        model=loaded.model,
        args=settings,
        train_dataset=Dataset.from_list(
            [{"input_ids": ids, "labels": labels} for batch in rows for ids, labels in batch]
        ),
        processing_class=loaded.tokenizer,
        peft_config=lora_config(LoraConfig),
        callbacks=[Clock()],
    )
    clean(bench)
    trainer.train()
    switches = {"checkpointing": checkpointing, "Liger": liger, "padding-free": padding_free}
    bench.say(
        work="training",
        model=model,
        side="trl",
        variant=", ".join(name for name, on in switches.items() if on) or "plain",
        checkpointing=checkpointing,
        losses=[float(loss) for loss in losses],
        **step_facts(bench, rows, seconds, kernels),
    )
