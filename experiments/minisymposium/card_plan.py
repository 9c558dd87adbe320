"""Part 8: the cost of the 7B recipe on a 12 GB card, by arithmetic. It is not run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.minisymposium.experiment import Experiment
from experiments.minisymposium.study import SMOKE_STEPS
from harness.training.config import read_config
from harness.training.plan.dry_run import CARD_BYTES, dry_run

#: Weights of Mistral-7B, and floating-point operations for each weight and token: 2 forward, 2
#: backward through the frozen base to its inputs, 2 for the forward that checkpointing repeats.
#: The adapter adds less than 1 %.
WEIGHTS, OPERATIONS = 7.24e9, 6
#: Assumed, not measured: what a 12 GB card such as the RTX 3060 sustains of its 25 TFLOP/s (16
#: bits, float32 sums) on nf4 weights.
CARD_FLOPS = 9e12


def card_plan(lab: Experiment) -> dict[str, Any]:
    """The dry run of the 7B recipe.

    The study's model lends its tokenizer, so that every machine counts the same tokens and nothing
    is downloaded.
    """
    recipe = read_config(lab.study.folder / lab.study.plan)
    if lab.scale == "smoke":
        recipe = replace(recipe, optimisation=replace(recipe.optimisation, max_steps=SMOKE_STEPS))
    stand_in = lab.config(lab.study.reference_run)
    plan = dry_run(
        replace(
            recipe,
            model=stand_in.model,
            data=replace(
                recipe.data, max_length=max(recipe.data.max_length, stand_in.data.max_length)
            ),
        )
    )
    [memory] = [item for item in plan.memory if item.has == CARD_BYTES and item.checkpointing]
    epochs = recipe.optimisation.num_train_epochs
    tokens = plan.facts["tokens"] / epochs
    return {
        "recipe": lab.study.plan.rpartition("/")[2],
        "model": recipe.model,
        "starts": plan.starts,
        "tokenizer_of": lab.loaded.name,
        "epochs": epochs,
        "tokens_per_epoch": round(tokens),
        "steps_per_epoch": plan.facts["steps_per_epoch"],
        "memory_gib": memory.bytes / 2**30,
        "memory": [
            {"name": part.name, "mib": part.bytes / 2**20, "why": part.why} for part in memory.parts
        ],
        "card_flops": CARD_FLOPS,
        "minutes_per_epoch": tokens * WEIGHTS * OPERATIONS / CARD_FLOPS / 60,
    }
