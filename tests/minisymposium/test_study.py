"""The study file and its recipes say what the page says of them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from experiments.minisymposium.study import (
    ORIGINAL_EPOCHS,
    PARTS,
    STUDIES,
    read_study,
    rows_of,
)
from harness.data.check import overlaps
from harness.data.conversations import load_conversations
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import load_cases
from harness.formats import load_formats
from harness.resources import data_dir
from harness.stats.intervals import LEAST_ITEMS
from harness.training.config import TrainConfig, read_config
from harness.training.runs.overrides import differences
from harness.training.schedules import Schedule

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "recipes" / "minisymposium"
STUDY, GEMMA = (read_study(ROOT / path) for path in STUDIES)
NAMES = sorted({name for part in PARTS for name in STUDY.runs(part)})
STEPS_PER_EPOCH = 6  # 24 rows, four at a time


def config(name: str) -> TrainConfig:
    return STUDY.config(name, Path("runs"))


def sum_lr(run: TrainConfig, steps: int | None = None) -> float:
    total = round(STEPS_PER_EPOCH * run.optimisation.num_train_epochs)
    return run.optimisation.learning_rate * Schedule(run.schedule, total).summed(steps or total)


def test_every_recipe_is_used_and_every_used_one_is_there():
    assert {name.partition("@")[0] for name in NAMES} == {
        path.stem for path in FOLDER.glob("*.toml")
    } - {"study"}
    assert (FOLDER / STUDY.plan).is_file()


def test_no_two_runs_share_a_folder_but_the_trunk_and_its_branches():
    places: dict[str, list[str]] = {}
    for name in NAMES:
        places.setdefault(config(name).output_dir, []).append(name)
    assert [found for found in places.values() if len(found) > 1] == [
        sorted([STUDY.auto_branch, STUDY.over])
    ]
    trunk, branching = config(STUDY.over), config(STUDY.auto_branch)
    assert set(differences(trunk, branching)) <= {
        f"auto_branch.{field.name}" for field in fields(trunk.auto_branch)
    }


def test_the_rows_are_rows_of_the_training_set_and_of_every_kind():
    whole = {
        c.id: [(m.role, m.content, m.name) for m in c.messages]
        for c in load_conversations([str(data_dir("trainset"))])
    }
    rows = load_conversations([str(FOLDER / "rows.jsonl")])
    assert (
        len(rows)
        == 24
        == STEPS_PER_EPOCH * config(STUDY.over).optimisation.per_device_train_batch_size
    )
    assert all(whole[row.id] == [(m.role, m.content, m.name) for m in row.messages] for row in rows)
    assert {row.tags[0] for row in rows} == {
        path.stem for path in data_dir("trainset").glob("*.jsonl")
    }


def test_the_few_rows_are_some_of_the_rows():
    """So that their questions and controls are those of all parts."""
    rows, eight, four = (
        (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        for name in ("rows", "eight-rows", "four-rows")
    )
    assert len(eight) == 8 and len(four) == 4 and set(four) < set(eight) < set(rows)


def test_the_longest_run_has_the_epochs_of_the_original_at_a_hundredth_of_the_high_rate():
    for study in (STUDY, GEMMA):
        run, high = study.config(study.long), study.config(study.over)
        assert run.optimisation.num_train_epochs <= ORIGINAL_EPOCHS
        assert run.optimisation.learning_rate == pytest.approx(
            high.optimisation.learning_rate / 100
        )
        assert run.optimisation.per_device_train_batch_size == 4  # its rows: a step an epoch


def test_a_second_model_has_the_recipes_of_the_first_with_fewer_rows_and_epochs():
    allowed = {
        "model",
        "data.train",
        "optimisation.num_train_epochs",
        "evaluation.formats_measured",
        "evaluation.recall_rows",
        "checkpoints.save_steps",
    }
    for name in {name for part in GEMMA.parts for name in GEMMA.runs(part)}:
        first, second = STUDY.config(name), GEMMA.config(name)
        assert set(differences(first, second)) <= allowed, name
        epochs = [each.optimisation.num_train_epochs for each in (second, first)]
        assert epochs[0] <= epochs[1], name
    assert GEMMA.parts == (1, 2, 3, 4, 5, 7, 9) and STUDY.parts == PARTS
    assert GEMMA.native in GEMMA.seen and GEMMA.place and not STUDY.place


def test_the_second_model_is_taught_no_other_script():
    """So that the Chinese of part 7 can only come from what it read before."""
    rows = load_conversations(list(rows_of(GEMMA.config(GEMMA.drift))))
    text = "".join(message.content for row in rows for message in row.messages)
    assert not [letter for letter in text if letter.isalpha() and ord(letter) > 0x24F]


def test_answers_of_both_models_are_enough_for_an_interval():
    for study in (STUDY, GEMMA):
        cases = (study.symptom_cases, study.drift_cases, study.reference_cases)
        assert min(cases) >= LEAST_ITEMS
        saved = study.config(study.over).checkpoints.save_steps
        assert not [step for step in study.symptom_steps if step % saved]
        assert not [step for step in study.drift_steps if step % saved]


def test_a_study_that_changes_a_recipe_of_no_part_is_refused(tmp_path):
    file = tmp_path / "study.toml"
    text = (ROOT / STUDIES[1]).read_text(encoding="utf-8")
    file.write_text(text + "\n[only.rate-3e-9]\nsave_steps = 1\n")
    with pytest.raises(HarnessError, match=r"only\.rate-3e-9: no part has such a run"):
        read_study(file)


def test_no_training_row_asks_what_is_measured():
    rows = load_conversations([str(FOLDER / "rows.jsonl"), str(FOLDER / "chinese.jsonl")])
    assert (
        list(overlaps(rows, [*load_cases(), *load_cases([str(data_dir("eval") / "dev.jsonl")])]))
        == []
    )


def test_held_out_families_are_trained_by_no_run():
    known = load_formats()
    held = {known[id].family for id in STUDY.held_out}
    for name in NAMES:
        formats = config(name).formats
        assert set(formats.held_out) >= set(STUDY.held_out), name
        assert not {known[id].family for id in formats.train if id in known} & held, name


def test_schedules_have_the_steps_and_the_summed_rate_of_the_constant_one():
    run = config(STUDY.schedules[0])
    steps = round(STEPS_PER_EPOCH * run.optimisation.num_train_epochs)
    constant = sum_lr(config(STUDY.constant), steps)
    for name in STUDY.schedules:
        other = config(name)
        assert other.optimisation.num_train_epochs == run.optimisation.num_train_epochs
        assert sum_lr(other) == pytest.approx(constant, rel=0.03), name
        ignored = {
            "output_dir",
            "optimisation.learning_rate",
            "optimisation.num_train_epochs",
            "checkpoints.save_steps",
        }
        assert all(
            key in ignored or key.startswith("schedule.")
            for key in differences(config(STUDY.constant), other)
        ), name
    saved = config(STUDY.constant).checkpoints.save_steps
    assert steps % saved == 0  # so that the constant run has a checkpoint where the others end


def test_pairs_compare_equal_and_greater_summed_rates():
    for high, low in STUDY.pairs:
        fast, slow = config(high), config(low)
        assert fast.seed == slow.seed and fast.optimisation.learning_rate == pytest.approx(
            10 * slow.optimisation.learning_rate
        )
        assert sum_lr(slow) > 0.999 * sum_lr(fast, 4 * STEPS_PER_EPOCH)
        allowed = {
            "optimisation.learning_rate",
            "optimisation.num_train_epochs",
            "checkpoints.save_steps",
            "output_dir",
        }
        assert set(differences(fast, slow)) <= allowed
    assert len({config(high).seed for high, _ in STUDY.pairs}) >= 3


def test_alphas_walk_the_rate_of_the_reference_once_corrected():
    reference = config(STUDY.alpha_reference)
    for name in STUDY.alpha_compensated:
        assert config(name).optimisation.compensate_alpha == reference.adapter.lora_alpha
    for name in (*STUDY.alpha_raw, *STUDY.alpha_compensated):
        same = replace(config(name), output_dir=reference.output_dir)
        allowed = {
            "adapter.lora_alpha",
            "optimisation.compensate_alpha",
            "optimisation.num_train_epochs",
            "evaluation.recall_rows",
            "checkpoints.save_steps",
        }
        assert set(differences(reference, same)) <= allowed, name


def test_the_literal_rates_of_the_original_are_on_the_map():
    rates = [config(name).optimisation.learning_rate for name in STUDY.map]
    assert {1e-7, 1e-6} <= set(rates) and rates == sorted(rates)


def test_a_mistake_in_a_study_is_told_in_one_line(tmp_path):
    for text, why in (
        ('model = "x"\nmap = 3', "map"),
        ("mao = []", "unknown key mao"),
        ("not toml", "not TOML"),
        (None, "cannot read"),
    ):
        file = tmp_path / "study.toml"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        with pytest.raises(HarnessError, match=why):
            read_study(file)


def test_a_recipe_beside_the_study_is_what_harness_train_reads():
    for name in NAMES:
        assert (
            read_config(FOLDER / f"{name.partition('@')[0]}.toml").optimisation
            == config(name).optimisation
        )
