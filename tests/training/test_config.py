"""Settings: all mistakes of file and environment together, foreign names explained, one place for
each key."""

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.training.config import (
    DataConfig,
    DataSource,
    TrainConfig,
    parse_config,
    read_config,
    read_environment,
)
from harness.training.config.reading import keys, parse_recorded
from harness.training.runs.overrides import with_settings


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "run.toml"
        file.write_text(text)
        return file

    return write


def test_all_mistakes_are_told_at_once(write):
    file = write(
        'modle = "x"\n[optimisation]\nlr = 1e-4\nnum_train_epochs = "many"\n[adapter]\nlora_r = 1\nlora_rank = 3\n'
    )
    with pytest.raises(HarnessError) as caught:
        read_config(file)
    text = str(caught.value)
    assert all(
        part in text
        for part in (
            "modle",
            "did you mean",
            "optimisation.lr",
            "learning_rate",
            "num_train_epochs",
            "adapter.lora_rank",
            "4 mistakes",
            str(file),
        )
    )


def test_values_out_of_range_are_told():
    with pytest.raises(
        HarnessError, match=r"learning_rate = -1: input should be greater than 0.*warmup_ratio"
    ):
        parse_config({"optimisation": {"learning_rate": -1}, "schedule": {"warmup_ratio": 2}})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            {"sequence_len": 512},
            "unknown key sequence_len (axolotl's name; here it is called max_length)",
        ),
        (
            {"data": {"cutoff_len": 512}},
            "unknown key data.cutoff_len (LLaMA-Factory's name; here it is called max_length)",
        ),
        (
            {"optimisation": {"lr_scheduler_type": "cosine"}},
            "unknown key optimisation.lr_scheduler_type (it belongs to [schedule])",
        ),
        (
            {"adapter": {"model": "x"}},
            "unknown key adapter.model (it belongs at the top of the file)",
        ),
        ({"schedule": {"lr_scheduler_type": "wsd"}}, "(here it is called warmup_stable_decay)"),
        ({"optimisation": {"optim": "adamw_torch_fused"}}, "here it is called adamw_torch"),
        (
            {"data": {"train": [{"path": "x", "weight": -2, "wieght": 3}]}},
            "unknown key data.train.0.wieght (did you mean weight",
        ),
        (
            {"data": {"train": [{"path": "x", "weight": -2}]}},
            "data.train.0.weight = -2: input should be greater than 0 — 1 mistake;",
        ),
        ({"data": {"train": ["x:0"]}}, "data.train = 'x:0': a weight must be a number above 0"),
        (
            {"data": {"train": [{"path": "x", "weight": float("inf")}]}},
            "data.train = 'x:inf': a weight must be a number above 0",
        ),
        ({"quantisation": {"load_in_4bit": True, "load_in_8bit": True}}, "excludes load_in_4bit"),
        (
            {"schedule": {"lr_scheduler_type": "piecewise", "points": [[0, 1], [0.5, 1]]}},
            "points that go from 0 to 1",
        ),
        ({"schedule": {"points": [[0, 1], [1, 1]]}}, "have no effect unless"),
        ({"formats": {"format_weights": {"chatml": 2}}}, "have no effect unless"),
        (
            {"schedule": {"decay_type": "linear"}},
            'unknown key schedule.decay_type (removed: use lr_scheduler_type = "piecewise"',
        ),
        ({"formats": {"mixing": "fixed"}}, '(removed: use "balanced")'),
        (
            {"optimisation": {"optim": "paged_adamw_32bit"}},
            '(removed: use "paged_adamw_8bit")',
        ),
    ],
)
def test_a_mistake_says_what_would_be_right(table, told):
    with pytest.raises(HarnessError) as caught:
        parse_config(table)
    assert told in str(caught.value)


def test_nothing_given_is_the_default():
    assert parse_config({}) == TrainConfig() == read_environment({})


def test_the_tree_survives_a_round_trip():
    config = TrainConfig(seed=3, data=DataConfig(train=("a.jsonl:2", DataSource("b.jsonl", 0.5))))
    assert parse_config(config.as_dict()) == config


def test_broken_toml_names_the_file(write):
    with pytest.raises(HarnessError, match=r"run\.toml: not TOML"):
        read_config(write("a = = 1"))


def test_a_key_has_one_flag_and_one_variable():
    """Flags carry no section, so no two keys may share a name."""
    from dataclasses import fields, is_dataclass

    tree = TrainConfig()
    leaves = [f for f in fields(tree) if not is_dataclass(getattr(tree, f.name))]
    leaves += [
        f
        for section in fields(tree)
        if is_dataclass(getattr(tree, section.name))
        for f in fields(getattr(tree, section.name))
    ]
    assert len(keys()) == len(leaves)


def test_flag_beats_environment_beats_file_beats_default(write, monkeypatch):
    file = write("seed = 1\n[optimisation]\nlearning_rate = 1e-3\nweight_decay = 0.1\n")
    environment = {
        "HARNESS_TRAIN_LEARNING_RATE": "2e-3",
        "HARNESS_TRAIN_SEED": "2",
        "UNRELATED": "x",
    }
    config = read_config(file, environment)
    assert (
        config.optimisation.learning_rate,
        config.optimisation.weight_decay,
        config.seed,
        config.dtype,
    ) == (2e-3, 0.1, 2, "auto")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seen = []
    monkeypatch.setattr(
        "harness.training.start.train", lambda config, **_: seen.append(config) or Path("x")
    )
    assert main(["train", str(file), "--seed", "3"]) == 0
    assert (seen[0].seed, seen[0].optimisation.learning_rate) == (3, 2e-3)


def test_lists_and_tables_in_the_environment():
    config = read_environment(
        {
            "HARNESS_TRAIN_FORMATS": "chatml, alpaca*",
            "HARNESS_TRAIN_TRAIN": '[{"path": "x", "weight": 2}]',
            "HARNESS_TRAIN_LOAD_IN_4BIT": "true",
            "HARNESS_TRAIN_MAX_NLL_RISE": "0.1",
        }
    )
    assert config.formats.train == ("chatml", "alpaca*")
    assert config.data.sources() == (DataSource("x", 2.0),)
    assert config.quantisation.load_in_4bit and config.stopping.max_nll_rise == 0.1


def test_mistakes_of_file_and_environment_are_told_together(write):
    with pytest.raises(HarnessError) as caught:
        read_config(
            write("seeed = 1\n"), {"HARNESS_TRAIN_LEARNING_RATE": "fast", "HARNESS_TRAIN_LR": "1"}
        )
    text = str(caught.value)
    assert "unknown key seeed" in text
    assert (
        "HARNESS_TRAIN_LEARNING_RATE: optimisation.learning_rate = 'fast': input should be a valid number"
        in text
    )
    assert "HARNESS_TRAIN_LR: no such key (here it is called learning_rate)" in text
    assert "3 mistakes" in text


def test_recorded_settings_of_an_earlier_version_are_read_where_they_mean_the_same():
    recorded = TrainConfig().as_dict()
    recorded["schedule"] |= {"decay_type": "1-sqrt", "midpoint": 0.5, "steepness": 10.0}
    recorded["objective"]["hold_native"] = True
    assert parse_recorded(recorded, "run.json") == TrainConfig()
    recorded["schedule"]["steepness"] = 40.0
    with pytest.raises(HarnessError, match="steepness \\(removed: use"):
        parse_recorded(recorded, "run.json")


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        *[(word, True) for word in ("true", "True", "TRUE", "yes", "On", "1")],
        *[(word, False) for word in ("false", "False", "NO", "off", "0")],
        *[(word, "auto") for word in ("auto", "Auto")],
    ],
)
@pytest.mark.parametrize("flag", ["--gradient-checkpointing {}", "--gradient_checkpointing={}"])
def test_a_switch_may_be_spelled_as_in_other_tools(flag, spelled, meant, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "harness.training.start.train", lambda config, **_: seen.append(config) or Path("x")
    )
    assert main(["train", *flag.format(spelled).split()]) == 0
    found = [seen[0]]
    if meant != "auto":
        found.append(read_environment({"HARNESS_TRAIN_GRADIENT_CHECKPOINTING": spelled}))
        name = "optimisation.gradient_checkpointing"
        found.append(with_settings(TrainConfig(), {name: spelled}))
    assert [config.optimisation.gradient_checkpointing for config in found] == [meant] * len(found)


def test_a_switch_says_which_values_it_knows(capsys):
    assert main(["train", "--gradient-checkpointing", "maybe"]) == 2
    expected = "gradient_checkpointing = 'maybe': expected true, false or 'auto' — 1 mistake"
    assert expected in capsys.readouterr().err
    with pytest.raises(HarnessError, match="= 3: expected true, false or 'auto'"):
        parse_config({"optimisation": {"gradient_checkpointing": 3}})
