"""Full fine-tuning, for comparison with LoRA: all weights, in float32."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import atomic_folder, write_text
from harness.training.config import TrainConfig
from harness.training.schedules import Schedule

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.training.data.examples import Example

MODEL_DIR, RECALL_FILE = "model", "recall.json"


def tune_fully(config: TrainConfig, *, quiet: bool = False) -> Path:
    """Train all weights as a run trains its adapter: the same examples, loss and schedule.

    Writes the model and ``recall_items`` before and after into the run's folder, and returns that.
    """
    import torch

    from harness.models import load
    from harness.models.architecture import context_window
    from harness.training.data.examples import make_plan
    from harness.training.preparation import prepare
    from harness.training.selection.checkpoint_eval import CheckpointMeasure

    folder = Path(config.output_dir)
    if (folder / RECALL_FILE).is_file():
        return folder
    torch.manual_seed(config.seed)
    ready = prepare(config)
    loaded = load(config.model, dtype="float32")
    cache, _ = ready.encode(loaded.tokenizer, context_window(loaded.model.config))
    measure = CheckpointMeasure(ready, cache.conversations, loaded)
    before = measure(0)
    plan = make_plan(config, cache)
    schedule = Schedule(config.schedule, plan.total_steps)
    steps = ([cache(pair) for pair in plan.step(number)] for number in range(plan.total_steps))
    for number, loss in enumerate(_losses(config, loaded, schedule, steps), 1):
        if not quiet and number % 10 == 0:
            print(f"{folder.name}: {number}/{plan.total_steps}  loss {loss:.3f}", file=sys.stderr)
    items = [entry.get("recall_items", {}) for entry in (before, measure(plan.total_steps))]
    with atomic_folder(folder / MODEL_DIR, what="model") as place:
        loaded.model.save_pretrained(place)
        loaded.tokenizer.save_pretrained(place)
    write_text(folder / RECALL_FILE, json.dumps(items) + "\n")
    return folder


def _losses(
    config: TrainConfig, loaded: LoadedModel, schedule: Schedule, steps: Iterator[list[Example]]
) -> Iterator[float]:
    """Do each optimiser step, and yield its mean loss in nats a supervised token."""
    import torch

    from harness.training.step.loss import supervised_loss

    opt = config.optimisation
    parameters = list(loaded.model.requires_grad_(requires_grad=True).parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        betas=(opt.adam_beta1, opt.adam_beta2),
        eps=opt.adam_epsilon,
        weight_decay=opt.weight_decay,
    )
    for number, batch in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = opt.learning_rate * schedule.factor(number)
        loss = supervised_loss(loaded, batch) / sum(one.supervised for one in batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, opt.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield float(loss.detach())
    loaded.model.requires_grad_(requires_grad=False)
