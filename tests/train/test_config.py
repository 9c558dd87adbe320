"""Settings: every mistake of a file at once, foreign names explained."""

import pytest

from harness.errors import HarnessError
from harness.train.config import TrainConfig, parse_config, read_config


def test_all_mistakes_are_told_at_once(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('modle = "x"\n[optimisation]\nlr = 1e-4\nnum_train_epochs = "many"\n[adapter]\nlora_r = 1\nlora_rank = 3\n')
    with pytest.raises(HarnessError) as caught:
        read_config(file)
    text = str(caught.value)
    assert all(
        part in text for part in ("modle", "did you mean", "optimisation.lr", "learning_rate", "num_train_epochs", "adapter.lora_rank", "4 mistakes", str(file))
    )


def test_values_out_of_range_are_told():
    with pytest.raises(HarnessError, match=r"learning_rate = -1\.0: must be above 0.*warmup_ratio"):
        parse_config({"optimisation": {"learning_rate": -1, "warmup_ratio": 2}})


def test_nothing_given_is_the_default():
    assert parse_config({}) == TrainConfig()


def test_the_tree_survives_a_round_trip():
    assert parse_config(TrainConfig(seed=3).as_dict()) == TrainConfig(seed=3)


def test_broken_toml_names_the_file(tmp_path):
    (tmp_path / "run.toml").write_text("a = = 1")
    with pytest.raises(HarnessError, match=r"run\.toml: not TOML"):
        read_config(tmp_path / "run.toml")
