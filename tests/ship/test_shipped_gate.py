"""The gate of a real adapter, run on files of it in llama.cpp: the sound one passes, the base's
fails."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import tests.tiny_gguf
from harness.gate.baseline_file import write_baseline
from harness.gate.run_gate import GateOptions, run_gate
from harness.ship import ShipJob, ship
from harness.training.start import train
from tests.tiny_gguf import write_gguf
from tests.training.small import small_config, sums

pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.extras

ROWS = sums(48)


@pytest.fixture(scope="module")
def shipped(tiny_model, tmp_path_factory):
    """A folder with an adapter's baseline, and F32 files of the adapter and of the base."""
    folder = tmp_path_factory.mktemp("shipped-gate")
    config = small_config(
        tiny_model, folder, rows=ROWS, formats=("chatml",), optimisation={"num_train_epochs": 3}
    )
    adapter = train(config, quiet=True)
    cases = [
        {"id": f"c{n}", "messages": [{"role": "user", "content": q}], "reference": a}
        for n, (q, a) in enumerate(ROWS)
    ]
    (folder / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    job = ShipJob(str(tiny_model), folder / "out", "chatml", adapter=str(adapter))
    ship(replace(job, dtype="float32", behaviour="none"), quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tests.tiny_gguf, "ENLARGED", 1.0)
        write_gguf(folder / "out" / "hf", folder / "sound.gguf")
        write_gguf(tiny_model, folder / "base.gguf")
    options = GateOptions(
        str(tiny_model),
        adapter=str(adapter),
        native="chatml",
        baseline=folder / "base.json",
        formats=("chatml",),
        cases=(str(folder / "cases.jsonl"),),
        folder=folder / "results",
    )
    write_baseline(run_gate(replace(options, update=True)).current, folder / "base.json")
    return options, folder


@pytest.mark.parametrize(("name", "outcome"), [("sound", "passed"), ("base", "failed")])
def test_a_file_without_the_adapter_fails_the_adapters_gate(shipped, name, outcome):
    options, folder = shipped
    result = run_gate(replace(options, artefact=str(folder / f"{name}.gguf")))
    assert {check.metric: check.outcome for check in result.checks}["nll"] == outcome
    assert any(check.fails for check in result.checks) == (outcome == "failed")
    assert result.evaluation.fingerprint["backend"].startswith("llama.cpp")
