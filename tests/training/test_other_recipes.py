"""Configurations of axolotl, LLaMA-Factory, TRL and unsloth as recipes of ours: every key is kept
or listed with its reason, and what comes out is valid."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.main import main
from harness.errors import HarnessError
from harness.training.config import parse_config
from harness.training.config.other_trainers import TRAINERS, read_other_recipe
from harness.training.config.recipe_text import recipe_toml
from tests.training.small import write_rows

AXOLOTL = {
    "base_model": "my-model",
    "datasets": [
        {"path": "rows.jsonl", "type": "chat_template", "roles_to_train": ["assistant"]},
        {"path": "old.json", "type": "alpaca", "shards": 4},
    ],
    "chat_template": "chatml",
    "adapter": "qlora",
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "lora_target_linear": True,
    "sequence_len": 512,
    "sample_packing": True,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "num_epochs": 2,
    "optimizer": "paged_adamw_32bit",
    "lr_scheduler": "cosine",
    "cosine_min_lr_ratio": 0.1,
    "learning_rate": "2e-4",
    "warmup_steps": 10,
    "bf16": "auto",
    "seed": 7,
    "train_on_inputs": False,
    "wandb_project": "mine",
    "flash_attention": True,
    "strange_key": 1,
}
FACTORY = {
    "model_name_or_path": "my-model",
    "stage": "sft",
    "finetuning_type": "lora",
    "lora_rank": 4,
    "lora_target": "q_proj,v_proj",
    "dataset": "mine,rows.jsonl",
    "template": "qwen",
    "cutoff_len": 256,
    "quantization_bit": 4,
    "mask_history": True,
    "per_device_train_batch_size": 1,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_ratio": 0.1,
    "overwrite_cache": True,
}
TRL = {
    "model_name_or_path": "my-model",
    "dataset_name": "rows.jsonl",
    "sft": {
        "learning_rate": 1e-5,
        "max_length": 300,
        "max_steps": -1,
        "assistant_only_loss": True,
        "lr_scheduler_type": "constant",
        "warmup_steps": 3,
        "packing": True,
        "report_to": ["mlflow", "wandb"],
    },
    "lora": {"r": 4, "lora_alpha": 4, "target_modules": "all-linear", "bias": "none"},
}
UNSLOTH = {
    "model_name": "my-model",
    "data_files": ["rows.jsonl"],
    "max_seq_length": 1024,
    "load_in_4bit": True,
    "r": 16,
    "lora_alpha": 16,
    "random_state": 3407,
    "use_gradient_checkpointing": "unsloth",
    "optim": "adamw_8bit",
    "train_on_responses_only": True,
    "response_part": "<|im_start|>assistant\n",
    "last_response_only": True,
}


@pytest.fixture
def read(tmp_path):
    """Write a configuration and read it."""

    def read(config, trainer="", name="config.yaml"):
        file = tmp_path / name
        file.write_text(json.dumps(config) if name.endswith("json") else yaml.safe_dump(config))
        return read_other_recipe(file, trainer)

    write_rows(tmp_path, [("a?", "b")])
    (tmp_path / "data").mkdir()
    info = {"mine": {"file_name": "x.json", "formatting": "sharegpt", "columns": {"messages": "c"}}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    return read


def _reasons(recipe):
    return {item.key: item.reason for item in recipe.not_kept}


def test_axolotl(read, tmp_path):
    recipe = read(AXOLOTL)
    config = parse_config(recipe.table)
    assert config.model == "my-model" and config.seed == 7
    assert config.adapter.lora_target_modules == ("all-linear",)
    assert asdict(config.adapter) | {"lora_r": 8, "lora_alpha": 16.0, "lora_dropout": 0.05} == (
        asdict(config.adapter)
    )
    assert config.quantisation.load_in_4bit
    first, second = config.data.sources()
    assert first.path == str(tmp_path / "rows.jsonl")
    assert (second.path, second.schema) == ("old.json", "alpaca")
    assert (config.data.max_length, config.data.on_refuse) == (512, "skip")
    assert config.formats.train == ("chatml",)
    optimisation = config.optimisation
    assert (optimisation.learning_rate, optimisation.num_train_epochs) == (2e-4, 2)
    assert (optimisation.per_device_train_batch_size, optimisation.gradient_accumulation_steps) == (
        2,
        4,
    )
    assert optimisation.optim == "paged_adamw_8bit" and "optimizer" in recipe.differs
    assert (config.schedule.warmup_steps, config.schedule.min_lr_ratio) == (10, 0.1)
    assert config.tracking.report_to == ("wandb",) and config.tracking.project == "mine"
    assert set(_reasons(recipe)) == {
        "sample_packing",
        "flash_attention",
        "strange_key",
        "datasets.1.shards",
    }
    assert _reasons(recipe)["strange_key"] == "harness train has no such setting"


def test_llama_factory(read, tmp_path):
    recipe = read(FACTORY)
    config = parse_config(recipe.table)
    assert [source.path for source in config.data.sources()] == [
        str(tmp_path / "data" / "x.json"),
        str(tmp_path / "rows.jsonl"),
    ]
    assert config.adapter.lora_target_modules == ("q_proj", "v_proj")
    assert (config.adapter.lora_r, config.adapter.lora_alpha) == (4, 8)
    assert config.formats.train == ("qwen2.5",) and config.loss.last_turn_only
    assert config.quantisation.load_in_4bit
    assert (config.schedule.lr_scheduler_type, config.schedule.warmup_ratio) == ("constant", 0.1)
    assert recipe.defaults["optimisation.num_train_epochs"] == 3
    assert set(_reasons(recipe)) == {"overwrite_cache", "dataset_info.mine.columns"}


def test_trl_takes_the_defaults_of_what_it_names_none_of(read):
    recipe = read(TRL, name="config.json")
    config = parse_config(recipe.table)
    assert config.formats.train == ("native",) and config.data.max_length == 300
    assert config.optimisation.max_steps == 0
    # transformers' constant schedule has no warm-up, and ours would rise
    assert (config.schedule.lr_scheduler_type, config.schedule.warmup_steps) == ("constant", 0)
    assert config.schedule.warmup_ratio == 0
    assert config.optimisation.per_device_train_batch_size == 8
    assert set(_reasons(recipe)) == {"warmup_steps", "packing", "report_to", "bias"}
    assert config.tracking.report_to == ("wandb",)


def test_trl_says_that_it_trains_questions(read):
    every_token = {**TRL, "sft": {**TRL["sft"], "assistant_only_loss": False}}
    recipe = read(every_token)
    assert "assistant_only_loss" in _reasons(recipe)
    assert any("every token" in note for note in recipe.notes)
    assert not any("every token" in note for note in read(TRL).notes)


def test_unsloth(read):
    recipe = read(UNSLOTH)
    config = parse_config(recipe.table)
    assert config.seed == 3407 and config.loss.last_turn_only
    assert config.optimisation.gradient_checkpointing is True
    assert recipe.defaults["optimisation.gradient_accumulation_steps"] == 2
    assert set(_reasons(recipe)) == {"response_part"}


@pytest.mark.parametrize(
    ("config", "trainer"),
    [(AXOLOTL, "axolotl"), (FACTORY, "LLaMA-Factory"), (TRL, "TRL"), (UNSLOTH, "unsloth")],
)
def test_the_trainer_is_recognised_and_can_be_named(read, config, trainer):
    assert read(config).trainer == trainer
    assert read(config, trainer.lower()).trainer == trainer


def test_another_task_is_refused(read):
    with pytest.raises(HarnessError, match="rl = dpo"):
        read({**AXOLOTL, "rl": "dpo"})
    with pytest.raises(HarnessError, match="stage = dpo"):
        read({**FACTORY, "stage": "dpo"})
    with pytest.raises(HarnessError, match="neither a file nor an entry"):
        read({**FACTORY, "dataset": "nowhere"})
    with pytest.raises(HarnessError, match="by its keys"):
        read({"a": 1})


NOTEBOOK = [
    "!pip install unsloth\n",
    """from unsloth import FastLanguageModel
length = 2048
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name="my-model", max_seq_length=length, load_in_4bit=True
)
model = FastLanguageModel.get_peft_model(
    model, r=8, target_modules=["q_proj", "v_proj"], lora_alpha=16, random_state=3407
)
""",
    """trainer = SFTTrainer(
    model=model,
    train_dataset=dataset,
    args=SFTConfig(per_device_train_batch_size=2, max_steps=60, learning_rate=2e-4, seed=make()),
)
trainer = train_on_responses_only(trainer, response_part="<|im_start|>assistant")
""",
]


def test_a_notebook_is_parsed_and_what_it_computes_is_listed(tmp_path):
    file = tmp_path / "run.ipynb"
    cells = [{"cell_type": "code", "source": [text]} for text in NOTEBOOK]
    file.write_text(json.dumps({"cells": cells}))
    recipe = read_other_recipe(file)
    config = parse_config(recipe.table)
    assert recipe.trainer == "unsloth" and config.model == "my-model"
    assert (config.adapter.lora_r, config.data.max_length) == (8, 2048)
    assert config.adapter.lora_target_modules == ("q_proj", "v_proj")
    assert (config.optimisation.max_steps, config.seed) == (60, 3407)
    computed = {key for key, why in _reasons(recipe).items() if why.startswith("the script")}
    assert computed == {"model", "train_dataset", "args", "seed"}


_VALUES = st.one_of(
    st.booleans(), st.integers(1, 64), st.floats(0.01, 0.9), st.sampled_from(["auto", "x", "2e-5"])
)
_TYPED = {
    "learning_rate": st.sampled_from([1e-5, "2e-4", 0.001]),
    "warmup_steps": st.sampled_from([0, 0.1, 5]),
    "warmup_ratio": st.floats(0, 0.5),
    "lr_scheduler": st.sampled_from(["cosine", "linear", "rex", "constant", "polynomial"]),
    "lr_scheduler_type": st.sampled_from(
        ["cosine", "constant", "warmup_stable_decay", "inverse_sqrt", "cosine_with_min_lr"]
    ),
    "lr_scheduler_kwargs": st.sampled_from([{"min_lr": 1e-6}, {"min_lr_rate": 0.1}, {"power": 2}]),
    "optim": st.sampled_from(["adamw_torch_fused", "lion_8bit", "adafactor"]),
    "optimizer": st.sampled_from(["adamw_bnb_8bit", "muon", "paged_adamw_32bit"]),
    "bf16": st.sampled_from([True, False, "auto", "full"]),
    "fp16": st.booleans(),
    "torch_dtype": st.sampled_from(["bfloat16", "torch.float16", "fp64"]),
    "report_to": st.sampled_from(["none", "all", ["wandb"], "mlflow"]),
    "save_steps": st.sampled_from([0.2, 100]),
    "save_strategy": st.sampled_from(["no", "epoch", "steps"]),
    "gradient_checkpointing": st.sampled_from([True, False, "offload"]),
    "adapter": st.sampled_from(["lora", "qlora", "llama-adapter"]),
    "target_modules": st.sampled_from(["all-linear", ["q_proj"], r".*\.q_proj$", "q_proj,v_proj"]),
    "chat_template": st.sampled_from(["chatml", "tokenizer_default", "jamba", "qwen3"]),
    "chat_template_jinja": st.just("{{ messages }}\n{{ x }}"),
    "template": st.sampled_from(["llama3", "yi_vl"]),
    "dataset": st.sampled_from(["mine", "mine, rows.jsonl"]),
    "quantization_bit": st.sampled_from([4, 8, 3]),
    "finetuning_type": st.sampled_from(["lora", "full"]),
    "max_seq_length": st.integers(32, 4096),
    "max_steps": st.sampled_from([-1, 0, 10]),
    "num_epochs": st.floats(0.1, 4),
    "lora_target_linear": st.booleans(),
    "train_on_inputs": st.booleans(),
    "assistant_only_loss": st.booleans(),
    "neftune_noise_alpha": st.just(5),
    "deepspeed": st.just("zero2.json"),
    "something_else": _VALUES,
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(TRAINERS),
    st.fixed_dictionaries({}, optional=_TYPED),
)
def test_every_key_is_kept_or_listed_and_the_recipe_is_valid(tmp_path_factory, trainer, config):
    folder = tmp_path_factory.getbasetemp() / "others"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "dataset_info.json").write_text('{"mine": {"file_name": "x.json"}}')
    (folder / "rows.jsonl").touch()
    file = folder / "c.yaml"
    file.write_text(yaml.safe_dump(config))
    recipe = read_other_recipe(file, trainer)
    parse_config(recipe.table)
    listed = set(recipe.kept) | set(_reasons(recipe))
    assert not set(recipe.kept) & set(_reasons(recipe))
    top = {key.partition(".")[0] for key in listed}
    assert top == set(config)
    text = "\n".join(recipe.lines())
    assert all(f"{item.key} = " in text and item.reason in text for item in recipe.not_kept)


def test_the_recipe_as_text_gives_the_same_settings(read):
    for config in (AXOLOTL, FACTORY, TRL, UNSLOTH):
        settings_of_it = parse_config(read(config).table)
        assert parse_config(tomllib.loads(recipe_toml(settings_of_it))) == settings_of_it


@pytest.mark.parametrize("config", [AXOLOTL, FACTORY, TRL, UNSLOTH])
def test_a_dry_run_shows_recipe_and_keys_that_are_not_kept(
    config, tmp_path, tiny_model, capsys, monkeypatch
):
    (tmp_path / "data").mkdir()
    rows = write_rows(tmp_path, [("a fox?", "brown"), ("dog", "lazy")])
    key = next(k for k in ("base_model", "model_name_or_path", "model_name") if k in config)
    changed = {**config, key: str(tiny_model)}
    for name in ("load_in_4bit", "quantization_bit", "adapter"):
        changed.pop(name, None)
    if "datasets" in config:
        changed["datasets"] = config["datasets"][:1]
    if "dataset" in config:
        changed["dataset"] = str(rows)
    file = tmp_path / "theirs.yaml"
    file.write_text(yaml.safe_dump(changed))
    flags = ["--formats", "chatml", "--optim", "adamw_torch"]
    assert main(["train", str(file), "--dry-run", *flags]) == 0
    out = capsys.readouterr().out
    assert "read as a configuration of" in out and "not kept: " in out
    assert 'train = ["chatml"]' in out and "steps: " in out
    assert main(["train", str(file), "--dry-run", "--json", *flags]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["conversations"] == 2 and shown["read_from"]["not_kept"]
