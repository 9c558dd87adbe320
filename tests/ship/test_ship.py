"""harness ship: what it writes is what was trained, and runtimes find it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import pytest

import harness.ship
from harness.cli.main import main
from harness.errors import HarnessError
from harness.run_file import RunMetadata, write_run_metadata
from harness.ship import RUNTIMES, ShipJob, read_shipment, ship
from tests.ship.test_ship_page import SHIPMENT
from tests.tiny_gguf import write_gguf
from tests.training.test_merge import make_adapter


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    """An adapter that changes the tiny model a lot."""
    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapter") / "tuned")


def job_of(tiny_model, adapter, tmp_path, **more):
    given = {"format": "chatml", "behaviour": "none", "dtype": "float32", **more}
    return ShipJob(str(tiny_model), tmp_path / "out", adapter=str(adapter), **given)


def test_the_folder_computes_what_base_and_adapter_computed(tiny_model, adapter, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tests.training.small import load_adapted

    ship(job_of(tiny_model, adapter, tmp_path), quiet=True)
    shipped = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "hf")
    ids = torch.arange(3, 50).unsqueeze(0)
    with torch.no_grad():
        trained = load_adapted(tiny_model, adapter).model(ids).logits
        assert torch.allclose(shipped(ids).logits, trained, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "hf")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "capital?"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\ncapital?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in shipped.generation_config.eos_token_id


def test_every_file_is_listed_with_its_digest(tiny_model, adapter, tmp_path):
    done = ship(job_of(tiny_model, adapter, tmp_path, to=("hf", "vllm")), quiet=True)
    out = tmp_path / "out"
    listed = {one.path: one for one in done.artefacts}
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written - set(listed) == {"ship.json", "ship.html", "ship.md", "README.md"}
    weights = listed["hf/model.safetensors"]
    content = (out / weights.path).read_bytes()
    assert (weights.sha256, weights.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (weights.quantisation, weights.runtimes) == ("float32", ("hf", "vllm"))
    assert read_shipment(out) == done


def test_a_model_without_adapter_is_copied_byte_for_byte(tiny_model, tmp_path):
    job = ShipJob(str(tiny_model), tmp_path / "out", "chatml", behaviour="none")
    done = ship(job, quiet=True)
    name = "model.safetensors"
    assert (tmp_path / "out" / "hf" / name).read_bytes() == (tiny_model / name).read_bytes()
    assert done.adapter == {}


def test_the_command_prints_the_document(tiny_model, adapter, tmp_path, capsys):
    out = tmp_path / "out"
    code = main(
        f"ship {tiny_model} --adapter {adapter} --format chatml --json --out {out} "
        "--behaviour none --to vllm,hf".split()
    )
    printed = capsys.readouterr()
    assert code == 0 and not printed.err
    assert json.loads(printed.out) == json.loads((out / "ship.json").read_text())
    assert list(json.loads(printed.out)["commands"]) == ["hf", "vllm"]
    assert RUNTIMES[:2] == ("hf", "vllm")


@pytest.mark.parametrize("name", ["mine", "theirs"])
def test_a_run_has_its_formats_and_another_format_is_noted(tiny_model, adapter, tmp_path, name):
    """The run's own folder of formats is found from anywhere."""
    run, folder = tmp_path / "run", tmp_path / "elsewhere" / "formats"
    shutil.copytree(adapter, run / "adapter")
    folder.mkdir(parents=True)
    for one in ("mine", "theirs"):
        (folder / f"{one}.jinja").write_text(
            "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}"
        )
    config = {"model": str(tiny_model), "formats": {"formats_dir": ["formats"]}}
    write_run_metadata(run, RunMetadata("sha256:1", ("mine",), (), (), config, str(folder.parent)))
    done = ship(ShipJob(str(run), tmp_path / "out", name, behaviour="none"), quiet=True)
    noted = ["the adapter was not trained in theirs, but in mine"]
    assert list(done.notes) == (noted if name == "theirs" else [])
    assert done.adapter["name"] == "run" and done.name.endswith("-run"), "not its folder adapter"


def test_the_command_fails_if_a_check_differs(monkeypatch, tmp_path, capsys):
    args = ["ship", "m", "--format", "chatml", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(harness.ship, "ship", lambda job, quiet: SHIPMENT)
    assert main(args) == 1
    printed = capsys.readouterr().out
    assert "DIFFERS      llamacpp, weights" in printed and "adapter-missing" in printed
    sound = replace(SHIPMENT, checks=SHIPMENT.checks[:2])
    monkeypatch.setattr(harness.ship, "ship", lambda job, quiet: sound)
    assert main(args) == 0


def test_an_adapter_of_another_base_is_refused(tiny_model, adapter, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    base = json.loads((other / "base.json").read_text())
    (other / "base.json").write_text(json.dumps({**base, "digest": "sha256:0"}))
    with pytest.raises(HarnessError, match="this adapter was trained on"):
        ship(job_of(tiny_model, other, tmp_path), quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_gguf_file_without_adapter_is_refused(tiny_model, tmp_path):
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    with pytest.raises(HarnessError, match="a GGUF file is made for a runtime"):
        ship(ShipJob(str(file), tmp_path / "out", "chatml"), quiet=True)
