"""A folder that is deleted while a command writes to it is noticed, and the exit code is 2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.evaluation.execute import execute
from harness.evaluation.store.results_file import Store
from harness.training import loop
from harness.training.start import train
from tests.evaluation.test_results_file import Named, plan
from tests.training.small import small_config


class Remover(Named):
    """Deletes a folder after some answers."""

    def __init__(self, folder, after):
        super().__init__()
        self.folder, self.after = folder, after

    def generate(self, requests):
        for batch in super().generate(requests):
            yield batch
            if self.asked == self.after:
                shutil.rmtree(self.folder)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_results_file_that_is_removed_or_replaced(tmp_path, cases, formats, replaced):
    folder = tmp_path / "out"
    requests = plan(cases, formats)
    with (
        pytest.raises(HarnessError, match="the results file was removed while it was in use"),
        Store(folder / "r.sqlite") as store,
    ):
        execute(requests, Named(), store, quiet=True)  # the control: nothing is removed
        with store.writing():
            pass
        shutil.rmtree(folder)
        if replaced:
            Store(folder / "r.sqlite").db.close()
        with store.writing():
            pass


def test_an_evaluation_whose_folder_is_deleted_ends(tmp_path, cases, formats):
    folder = tmp_path / "out"
    with (
        pytest.raises(HarnessError, match="was removed while it was in use"),
        Store(folder / "r.sqlite") as store,
    ):
        execute(plan(cases, formats), Remover(folder, 12), store, quiet=True)
    assert not folder.exists()


def test_a_training_whose_folder_is_deleted_at_its_very_end(tiny_model, tmp_path, monkeypatch):
    """After the last checkpoint nothing is logged, and only the adapter would be there."""
    config = small_config(tiny_model, tmp_path, optimisation={"max_steps": 6})
    original = loop.Trainer._measured

    def delete(self, step, sum_lr):
        stop = original(self, step, sum_lr)
        if step == 6:
            shutil.rmtree(config.output_dir)
        return stop

    monkeypatch.setattr(loop.Trainer, "_measured", delete)
    with pytest.raises(HarnessError, match="was removed while it was in use"):
        train(config, quiet=True)
    assert not (Path(config.output_dir) / "adapter").exists()


@pytest.mark.parametrize("at", [1, 4, 6])
def test_a_training_whose_folder_is_deleted_ends(tiny_model, tmp_path, monkeypatch, at):
    config = small_config(tiny_model, tmp_path, optimisation={"max_steps": 6})
    original = loop.Trainer.step

    def delete(self, number, sum_lr):
        entry = original(self, number, sum_lr)
        if entry.step == at:
            shutil.rmtree(config.output_dir)
        return entry

    monkeypatch.setattr(loop.Trainer, "step", delete)
    with pytest.raises(HarnessError, match="was removed while it was in use"):
        train(config, quiet=True)
    assert not list(Path(config.output_dir).glob("checkpoint-*"))
    assert not (Path(config.output_dir) / "adapter").exists()
