"""Damaged folders and other kinds of model: each is refused by name, in one line, exit code 2."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.models import load
from tests.device import chosen_device
from tests.tiny import build_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 123\n"


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def cut(name: str, at: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(at * len(data))])

    return damage


def setting(**changes: object) -> Callable[[Path], None]:
    """config.json with these keys; None removes one."""

    def damage(folder: Path) -> None:
        facts = json.loads((folder / "config.json").read_text()) | changes
        kept = {key: value for key, value in facts.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return damage


def tensors(change: Callable[[dict], dict]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return damage


def without(pattern: str) -> Callable[[Path], None]:
    return tensors(lambda all_: {k: v for k, v in all_.items() if not re.search(pattern, k)})


def renamed(folder: Path) -> None:
    tensors(lambda all_: {f"decoder.{key}": value for key, value in all_.items()})(folder)


def narrower(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    tensors(lambda all_: {**all_, name: all_[name][:-8].contiguous()})(folder)


def classifier(folder: Path) -> None:
    import torch

    setting(architectures=["LlamaForSequenceClassification"])(folder)
    tensors(
        lambda all_: (
            {k: v for k, v in all_.items() if "lm_head" not in k}
            | {"score.weight": torch.zeros(2, 64)}
        )
    )(folder)


def sharded_without_one(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    table = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {}, "weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def tekken(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "tekken.json").write_text("{}")


def without_eos(folder: Path) -> None:
    facts = json.loads((folder / "tokenizer_config.json").read_text())
    facts.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))


def custom_code(folder: Path) -> None:
    setting(
        model_type="stranger",
        auto_map={"AutoConfig": "stranger.Config", "AutoModelForCausalLM": "stranger.Model"},
    )(folder)
    (folder / "stranger.py").write_text("from pathlib import Path\nPath('ran').touch()\n")


WEIGHTS = {
    "truncated": (cut("model.safetensors", 0.7), r"model\.safetensors: the file is cut"),
    "cut in its header": (cut("model.safetensors", 0.001), r"model\.safetensors: the file is cut"),
    "empty": (text("model.safetensors", ""), r"model\.safetensors: empty"),
    "LFS pointer": (text("model.safetensors", POINTER), r"model\.safetensors: a pointer of Git"),
    "not safetensors": (text("model.safetensors", "x" * 999), "not a safetensors file"),
    "missing shard": (sharded_without_one, "model-00002-of-00002.safetensors is missing"),
    "broken index": (
        lambda folder: (
            sharded_without_one(folder),
            text("model.safetensors.index.json", "{")(folder),
        ),
        r"index\.json:1: not JSON",
    ),
    "broken config": (text("config.json", '{"model_type": '), r"config\.json:1: not JSON"),
    "config is a list": (text("config.json", "[]"), r"config\.json: expected one JSON object"),
    "config is empty": (text("config.json", ""), r"config\.json:1: not JSON"),
    "config without a type": (
        setting(model_type=None, architectures=None),
        "cannot read the model's configuration: Unrecognized model",
    ),
    "config of another program": (setting(hidden_size="wide"), "cannot .*hidden_size"),
    "unknown type": (setting(model_type="brain"), "cannot read the model's configuration.*brain"),
    "broken generation config": (text("generation_config.json", "{"), r"generation_config\.json:1"),
    "LFS pointer tokenizer": (text("tokenizer.json", POINTER), r"tokenizer\.json:1: not JSON"),
    "cut tokenizer": (cut("tokenizer.json", 0.5), r"tokenizer\.json:.* not (JSON|UTF-8)"),
    "broken tokenizer config": (text("tokenizer_config.json", "{"), r"tokenizer_config\.json:1"),
    "tekken": (tekken, "tekken.json, which gives no character offsets"),
    "no EOS": (without_eos, "the tokenizer has no EOS token"),
    "custom code": (custom_code, "needs Python code of its own, which is never run"),
    "classifier": (classifier, "a model for another task.*LlamaForSequenceClassification"),
    "a million layers": (
        setting(num_hidden_layers=10**6),
        r"model: num_hidden_layers is 1,000,000, and the files hold 21 tensors — config\.json is damaged",
    ),
    "model and adapter": (with_an_adapter, "holds a model and an adapter"),
}
#: What only a command sees that loads the weights.
INCOMPLETE = {
    "no head": (without("lm_head"), "not in its files: lm_head.weight —"),
    "no MLP": (
        without(r"layers\.1\.mlp"),
        r"model\.layers\.1\.mlp\.down_proj\.weight, .*gate_proj.*, .*up_proj\.weight —",
    ),
    "random": (
        renamed,
        r"none of this LlamaForCausalLM's weights .* hold decoder\.lm_head\.weight, .*21 in all",
    ),
    "one layer more": (setting(num_hidden_layers=3), r"not in its files: model\.layers\.2.*9 in"),
    "one layer less": (
        setting(num_hidden_layers=1),
        r"in its files but not in the model: model\.layers\.1\..*9 in all",
    ),
    "wrong shape": (
        narrower,
        r"of another shape: model\.layers\.1\.mlp\.up_proj\.weight, .*: \[120, 64\] stored, \[128, 64\]",
    ),
}
#: A setting of config.json, and the size of the model that it describes.
OVERSIZE = {"head_dim": 10**6, "vocab_size": 10**7, "intermediate_size": 10**6}
for name, size in OVERSIZE.items():
    INCOMPLETE[f"{name} of {size}"] = (
        setting(**{name: size}),
        r"model: the configuration describes [\d,]{10,} weights, and the files hold at most 4\d\d,\d{3} —",
    )
for method in ("awq", "gptq", "compressed-tensors", "hqq", "aqlm", "fbgemm_fp8", "never_heard_of"):
    header = {"quant_method": method, "bits": 4}
    INCOMPLETE[method] = (
        setting(quantization_config=header),
        f"its weights are quantised by {method}, which is not supported",
    )


@pytest.fixture(scope="session")
def untied(tmp_path_factory) -> Path:
    """A healthy folder whose head is stored, and an adapter on it."""
    folder = tmp_path_factory.mktemp("untied")
    build_model(folder / "model", tie_word_embeddings=False)
    rows = [
        {"messages": [{"role": "user", "content": "fox"}, {"role": "assistant", "content": "dog"}]}
    ]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows * 4)))
    return folder


def commands(folder: Path, model: Path) -> dict[str, list[str]]:
    return {
        "eval": [
            "eval",
            str(model),
            "--formats",
            "chatml",
            "--limit",
            "1",
            "--dtype",
            "float32",
            "--out",
            str(folder / "out"),
        ],
        "train": [
            "train",
            "--model",
            str(model),
            "--train",
            str(folder / "train.jsonl"),
            "--max-steps",
            "1",
            "--formats",
            "chatml",
            "--dtype",
            "float32",
            "--output-dir",
            str(folder / "run"),
        ],
        "merge": [
            "merge",
            str(folder / "adapter"),
            "--base",
            str(model),
            "--out",
            str(folder / "merged"),
        ],
        "formats check": ["formats", "check", "chatml", "--model", str(model)],
    }


def run(command: list[str], capsys) -> tuple[int, str]:
    code = main(command)
    return code, capsys.readouterr().err


@pytest.fixture(scope="session")
def adapter(untied) -> Path:
    from peft import LoraConfig, get_peft_model

    base = load(str(untied / "model"), dtype="float32", device=chosen_device())
    get_peft_model(base.model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
        untied / "adapter"
    )
    return untied / "adapter"


@pytest.mark.parametrize("command", ["eval", "train", "merge", "formats check"])
def test_a_healthy_folder_passes(untied, adapter, tmp_path, command, capsys):
    shutil.copytree(untied, tmp_path / "here")
    here = tmp_path / "here"
    code, err = run(commands(here, here / "model")[command], capsys)
    assert code == 0, err


COMMANDS = ("eval", "train", "merge", "formats check")
#: formats check reads the tokenizer and the embeddings only.
TRIED = [
    (damage, command)
    for damage in (*WEIGHTS, *INCOMPLETE)
    for command in (COMMANDS if damage in WEIGHTS else COMMANDS[:3])
]


@pytest.mark.parametrize(("damage", "command"), TRIED)
def test_a_damaged_folder_is_refused_in_one_line(
    untied, adapter, tmp_path, command, damage, capsys, monkeypatch
):
    change, expected = {**WEIGHTS, **INCOMPLETE}[damage]
    shutil.copytree(untied, tmp_path / "here")
    here = tmp_path / "here"
    change(here / "model")
    monkeypatch.chdir(here)
    code, err = run(commands(here, here / "model")[command], capsys)
    assert code == 2, err
    assert re.search(expected, err), err
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "model.gguf: empty"),
        (POINTER.encode(), "model.gguf: a pointer of Git LFS"),
        (b"x" * 99, "model.gguf: not a GGUF file"),
        (b"GGUF" + b"\x03\x00\x00\x00" + b"\xff" * 99, r"model\.gguf: cannot "),
    ],
    ids=["empty", "LFS", "text", "cut"],
)
def test_a_damaged_gguf_is_refused_in_one_line(tmp_path, content, expected, capsys):
    (tmp_path / "model.gguf").write_bytes(content)
    file, out = tmp_path / "model.gguf", tmp_path / "out"
    command = ["eval", str(file), "--engine", "local", "--limit", "1", "--out", str(out)]
    code, err = run(command, capsys)
    assert code == 2
    assert re.search(expected, err), err
    assert len(err.strip().splitlines()) == 1
