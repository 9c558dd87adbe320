"""The format that an adapter was trained in, on real adapters: ten in one format each, one in many.

Training one takes about 80 s of processor time and a guess 45 s, so ``tox -e guess`` alone runs
this. What was tuned was tuned on other formats, rows and seeds (docs/log.md).
"""

from __future__ import annotations

import json
import os

import pytest

from harness.cli.main import main
from harness.formats import load_formats
from harness.resources import data_dir
from harness.training.config import DataConfig
from tests.slow.adapters import train_adapter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("GUESS" not in os.environ, reason="takes an hour: tox -e guess"),
]

SHORT = "everyday", "premises", "howto"
LONG = "everyday", "multiturn", "corrections"
#: Format, training files, learning rate, rank: ten families.
TRAINED_IN = [
    ("chatml", SHORT, 1e-3, 16),
    ("gemma3", SHORT, 1e-3, 16),
    ("openchat-3.5", SHORT, 1e-3, 16),
    ("markdown-heading", SHORT, 1e-3, 16),
    ("xml-tags", SHORT, 1e-3, 16),
    ("roleplay-names", SHORT, 1e-3, 16),
    ("guanaco", SHORT, 2e-3, 8),
    ("deepseek-v3", SHORT, 1e-3, 16),
    ("alpaca-stanford", LONG, 1e-3, 16),
    ("granite3", SHORT, 1e-3, 16),
]
LEAST_FIRST, LEAST_IN_THREE = 9, 10


def trained(formats, files, rate, rank, seed, folder):
    rows = data_dir("trainset")
    data = DataConfig(train=tuple(str(rows / f"{name}.jsonl") for name in files))
    return train_adapter(folder, seed, data, formats, rate, rank)


def guessed(run, capsys):
    capsys.readouterr()
    assert main(["formats", "guess", str(run), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_family_that_an_adapter_was_trained_in_is_guessed(tmp_path, capsys):
    families = {one.id: one.family for one in load_formats().values()}
    ranks = {}
    for seed, (name, files, rate, rank) in enumerate(TRAINED_IN, start=11):
        run = trained((name,), files, rate, rank, seed, tmp_path / name)
        order = [one["family"] for one in guessed(run, capsys)["families"]]
        ranks[name] = order.index(families[name]) + 1
    assert sum(rank == 1 for rank in ranks.values()) >= LEAST_FIRST, ranks
    assert sum(rank <= 3 for rank in ranks.values()) >= LEAST_IN_THREE, ranks


def test_training_in_many_formats_is_no_preference(tmp_path, capsys):
    run = trained(("common",), SHORT, 1e-3, 16, 22, tmp_path / "many")
    assert not guessed(run, capsys)["clear"]
