"""Several adapters on a base that is loaded once give what each gives on a base of its own."""

from __future__ import annotations

import json

import pytest
import torch

from harness import models
from harness.cli.main import main
from harness.errors import HarnessError
from harness.evaluation.run import adapter_labels, run_adapters, run_job
from harness.evaluation.settings import EvalJob
from harness.models import load, switch_adapter
from harness.run_file import RunMetadata, write_run_metadata
from harness.training.config import AdapterConfig
from harness.training.step.lora import add_adapter
from tests.device import chosen_device
from tests.factors import stir_factors

FORMATS = ("chatml", "llama3")


@pytest.fixture
def adapters(tiny_model, tmp_path):
    """Three adapters that do something: of two ranks, and one of attention alone."""
    folders = []
    for at, config in enumerate(
        (
            AdapterConfig(lora_r=2),
            AdapterConfig(lora_r=4, lora_alpha=9),
            AdapterConfig(lora_r=2, lora_target_modules=("q_proj",)),
        )
    ):
        model = add_adapter(
            load(str(tiny_model), dtype="float32", device=chosen_device()), config, seed=at
        )
        stir_factors(model, 0.3, seed=at)
        folders.append(str(tmp_path / f"run{at}" / "adapter"))
        model.save_pretrained(folders[-1])
    return folders


def cells(evaluation):
    return {(cell.format, cell.metric): cell for cell in evaluation.aggregates}


def test_each_equals_the_adapter_alone(tiny_model, adapters, tmp_path, monkeypatch):
    job = EvalJob(
        model=str(tiny_model), formats=FORMATS, limit=3, dtype="float32", out=tmp_path / "together"
    )
    loads = []
    monkeypatch.setattr(
        models, "load", lambda *args, **rest: loads.append(args) or load(*args, **rest)
    )
    together = run_adapters(job, adapters, quiet=True)
    monkeypatch.undo()
    assert len(loads) == 1
    assert [e.label for e in together] == ["run0/adapter", "run1/adapter", "run2/adapter"]
    assert len({e.fingerprint["adapter"] for e in together}) == 3
    for at, (adapter, evaluation) in enumerate(zip(adapters, together, strict=True)):
        alone = run_job(
            EvalJob(
                model=str(tiny_model),
                adapter=adapter,
                formats=FORMATS,
                limit=3,
                dtype="float32",
                out=tmp_path / str(at),
            ),
            quiet=True,
        )
        assert evaluation.computed == alone.computed > 0, (
            "no cell of another adapter is taken for its own"
        )
        assert cells(evaluation) == cells(alone)
    assert cells(together[0]) != cells(together[1]) != cells(together[2])


def test_the_base_is_untouched(tiny_model, adapters):
    loaded = load(str(tiny_model), dtype="float32", device=chosen_device())
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    for adapter in (*adapters, None):
        switch_adapter(loaded, adapter)
    after = loaded.model.state_dict()
    assert list(after) == list(before) and all(
        torch.equal(after[name], weight) for name, weight in before.items()
    )
    assert loaded.adapter is None and loaded.adapter_digest == ""


def test_labels_tell_adapters_apart():
    assert adapter_labels(["a/x", "a/y"]) == ["x", "y"]
    assert adapter_labels(["a/run/x", "b/run/x"]) == ["a/run/x", "b/run/x"]
    with pytest.raises(HarnessError, match="twice"):
        adapter_labels(["a/x", "a/x"])


def test_the_command_takes_several(tiny_model, adapters, tmp_path, capsys):
    args = [
        "eval",
        str(tiny_model),
        "--formats",
        "chatml",
        "--limit",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--json",
        "--max-new-tokens",
        "4",
    ]
    assert main([*args, "--adapter", adapters[0], "--adapter", adapters[1]]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["adapter"] for run in runs] == adapters[:2] and all(run["cells"] for run in runs)
    assert main([*args, "--adapter", adapters[0], "--adapter", str(tmp_path)]) == 2
    assert "adapter_config.json" in capsys.readouterr().err


def test_a_pickled_adapter_is_refused(tiny_model, adapters):
    from pathlib import Path

    weights = Path(adapters[0]) / "adapter_model.safetensors"
    weights.rename(weights.with_name("adapter_model.bin"))
    with pytest.raises(HarnessError, match=r"no adapter_model\.safetensors"):
        load(str(tiny_model), adapter=adapters[0])


@pytest.fixture
def run_folder(tiny_model, adapters, tmp_path, monkeypatch):
    """A run's folder with an adapter, started from the folder that holds the model."""
    folder = tmp_path / "run0"
    metadata = RunMetadata(
        digest="x",
        trained_formats=("chatml",),
        trained_families=("chatml",),
        held_out_formats=(),
        config={"model": "base", "formats": {"formats_dir": ["mine"]}},
        directory=str(tmp_path),
    )
    write_run_metadata(folder, metadata)
    (tmp_path / "base").symlink_to(tiny_model)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.jinja").write_text(
        '{#---\nfamily = "own"\n---#}\n{% for m in messages %}{{ m.content }}{% endfor %}'
    )
    monkeypatch.chdir(tmp_path.parent)
    return folder


def test_a_run_as_the_model_is_its_base_with_its_adapter(run_folder, tmp_path):
    job = EvalJob(model=str(run_folder)).with_run()
    assert job.model == str(tmp_path / "base") and job.adapter == str(run_folder / "adapter")
    assert job.formats_dirs == (str(tmp_path / "mine"),) and not job.quantisation
    named = EvalJob(model="m", adapter=str(run_folder)).with_run()
    assert (named.model, named.adapter) == ("m", job.adapter)
    assert EvalJob(model=str(tmp_path / "base")).with_run().adapter is None
    served = EvalJob(model=str(run_folder), engine="openai")
    assert served.with_run() == served, "a server's model may be called like a folder here"


def test_a_run_as_the_model_is_measured_as_base_and_adapter_are(run_folder, tmp_path):
    def scores(**named):
        job = EvalJob(formats=("chatml",), limit=2, dtype="float32", **named)
        return cells(run_job(job, quiet=True))

    base, adapter = str(tmp_path / "base"), str(run_folder / "adapter")
    whole = scores(model=str(run_folder), out=tmp_path / "a")
    assert whole == scores(model=base, adapter=adapter, out=tmp_path / "b")
    assert whole != scores(model=base, out=tmp_path / "c")


def test_a_run_without_an_adapter_says_what_to_do(run_folder):
    (run_folder / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(HarnessError, match="the run has no adapter yet"):
        EvalJob(model=str(run_folder)).with_run()
