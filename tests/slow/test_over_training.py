"""An over-training run on the real model is caught: the checkpoint before the turn, and a branch
from there that beats both ends.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from harness.evaluation.cases.case_files import load_cases
from harness.models import load
from harness.resources import data_dir
from harness.run_file import NLL_METRICS, measured_checkpoints
from harness.training.config import EvaluationConfig, TrainConfig, read_config
from harness.training.preparation import prepare
from harness.training.selection.best_checkpoint import find_best_checkpoint
from harness.training.selection.checkpoint_eval import CheckpointMeasure
from harness.training.start import train

pytestmark = pytest.mark.slow
RECIPE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "over-training.toml"


def held_out_nll(config: TrainConfig, adapter: Path | None) -> float:
    """Mean NLL of 24 references that no run and no choice has seen, in the held-out formats."""
    loaded = load(config.model, adapter=str(adapter) if adapter else None, dtype=config.dtype)
    nothing = EvaluationConfig(references=0, recall_rows=0, formats_measured=1)
    measure = CheckpointMeasure(prepare(replace(config, evaluation=nothing)), (), loaded)
    scored = measure._score(
        load_cases([str(data_dir("eval") / "cases" / "references.jsonl")]),
        measure.groups["held_out"],
    )
    return fmean(-scoring.logprob / scoring.tokens for _, scoring in scored)


def test_the_turn_is_found_and_the_branch_beats_both_ends(tmp_path):
    recipe = read_config(RECIPE)
    recipe = replace(
        recipe,
        output_dir=str(tmp_path / "trunk"),
        data=replace(recipe.data, train=(str(data_dir("trainset") / "premises.jsonl"),)),
    )
    recipe = replace(recipe, evaluation=replace(recipe.evaluation, recall_rows=0))  # for time
    loaded = load(recipe.model, dtype=recipe.dtype)
    plain = replace(recipe, auto_branch=replace(recipe.auto_branch, branch_at_turn=False))
    over = train(plain, loaded=loaded)  # to the bitter end
    trunk = Path(recipe.output_dir)
    points = measured_checkpoints(trunk)
    print(
        json.dumps(
            [[point["step"], *(round(point[name], 4) for name in NLL_METRICS)] for point in points]
        )
    )
    found = find_best_checkpoint(trunk)
    print(found.reason)
    assert found.turned and found.step <= found.turn_step and found.turn_step < points[-1]["step"]
    assert found.value < points[-1]["nll_held_out"] and found.value < points[0]["nll_held_out"]

    chosen = train(recipe)  # the trunk is done: branches from before the turn
    print((trunk / "auto_branch.json").read_text())
    low = replace(
        plain,
        output_dir=str(tmp_path / "under"),
        evaluation=EvaluationConfig(references=0, recall_rows=0),
    )
    under = train(
        replace(
            low,
            optimisation=replace(
                low.optimisation,
                learning_rate=recipe.optimisation.learning_rate / 100,
                num_train_epochs=2,
            ),
        )
    )
    values = {
        name: held_out_nll(recipe, adapter)
        for name, adapter in {"base": None, "under": under, "over": over, "chosen": chosen}.items()
    }
    print(json.dumps(values))
    assert values["chosen"] < min(values["under"], values["over"], values["base"])
