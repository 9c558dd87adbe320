"""A folder for the pages' commands: the names in them lead to a tiny model and a few rows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from harness.cli.main import main
from tests.docs.snippets import ROOT

#: Settings of every training, by environment: they override a recipe, and flags override them.
SMALL_RUN = {
    "MODEL": "./my-model", "TRAIN": "rows.jsonl", "ON_REFUSE": "skip", "DTYPE": "float32",
    "CONTROLS": "2", "REFERENCES": "2", "FORMATS_MEASURED": "1", "RECALL_ROWS": "1", "LORA_R": "4",
    "PER_DEVICE_TRAIN_BATCH_SIZE": "1", "GRADIENT_ACCUMULATION_STEPS": "1", "OPTIM": "adamw_torch",
    "LOAD_IN_4BIT": "false", "ANSWERS": "given", "NATIVE": "chatml",
}  # fmt: skip
#: Flags of every evaluation, unless the page gives them: one case of each kind, short answers.
SMALL_EVAL = {"--cases": "my-cases.jsonl", "--max-new-tokens": "2", "--cases-per-format": "1"}
_CASES = (
    {
        "id": "capital-01",
        "messages": [{"role": "user", "content": "Capital of Norway?"}],
        "choices": ["Oslo", "Rome"],
        "answer": 0,
    },
    {
        "id": "check-01",
        "messages": [{"role": "user", "content": "Name the capital of Norway."}],
        "checks": [{"contains": ["Oslo"]}],
    },
    {
        "id": "reference-01",
        "messages": [{"role": "user", "content": "Where is Oslo?"}],
        "reference": "Oslo is in Norway.",
    },
)
_TRAINING = """model = "my-model"
output_dir = "runs/train"

[data]
train = ["rows.jsonl"]

[formats]
train = ["chatml", "alpaca-newline"]
held_out = ["llama3"]

[optimisation]
max_steps = 2
"""


def build(folder: Path, model: Path) -> None:
    """Fill ``folder``, the current one; all names of adapters lead to one of two steps."""
    for name in ("my-model", "base"):
        shutil.copytree(model, folder / name)
    shutil.copytree(ROOT / "docs" / "recipes", folder / "docs" / "recipes")
    (folder / "trainset").mkdir()
    (folder / "run.toml").write_text(_TRAINING)
    numbers = range(33)  # less two controls: as many steps an epoch as the shipped set in eights
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} + 1?"},
                {"role": "assistant", "content": f"It is {n + 1}."},
            ]
        }
        for n in numbers
    ]
    lines(folder / "rows.jsonl", rows)
    lines(folder / "my-cases.jsonl", list(_CASES))
    (folder / "chat.json").write_text(json.dumps(rows[0]))
    (folder / "config.yml").write_text(
        "base_model: ./my-model\ndatasets: [{path: rows.jsonl, type: chat_template}]\n"
    )
    (folder / "sft.json").write_text('{"learning_rate": 1e-4, "r": 4, "packing": true}')
    script = 'train_on_responses_only(SFTTrainer("./my-model", args=SFTConfig(max_length=64)))\n'
    (folder / "train.py").write_text(script)
    cells = [{"cell_type": "code", "source": [script]}]
    (folder / "notebook.ipynb").write_text(json.dumps({"cells": cells}))
    for name in (
        "my-conversations",
        "my-prompts",
        "my-chats",
        "train",
        "trainset/premises",
    ):  # the last for a sweep, which reads no environment
        lines(folder / f"{name}.jsonl", rows[:8])
    for name in ("outputs", "base"):
        lines(
            folder / f"{name}.jsonl",
            [
                {"id": str(n), "text": f"The lamps along the quay were lit {n} times that evening."}
                for n in range(8)
            ],
        )
    (folder / "alpaca.json").write_text(
        json.dumps([{"instruction": "Name a capital.", "output": "Oslo."}])
    )
    page = (ROOT / "docs" / "add-a-format.md").read_text(encoding="utf-8")
    for name in ("my-formats", "DIR"):
        (folder / name).mkdir()
        (folder / name / "bracket.jinja").write_text(
            re.search(r"^```jinja\n(.*?)^```", page, re.M | re.S)[1]
        )
    assert (
        main(["train", "run.toml", "--learning-rate", "2e-4"]) == 0
    )  # as in README.md, whose later commands use this run
    for name in ("my-adapter", "good-adapter", "new-adapter", "a", "b"):
        shutil.copytree(folder / "runs" / "train" / "adapter", folder / name)
    small = [word for pair in SMALL_EVAL.items() for word in pair]
    for name in ("eval", "a", "b"):
        assert (
            main(
                [
                    "eval",
                    "./my-model",
                    "--adapter",
                    "./a",
                    "--formats",
                    "chatml",
                    "--out",
                    f"build/{name}",
                    *small,
                ]
            )
            == 0
        )


def lines(path: Path, rows: list[dict]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
