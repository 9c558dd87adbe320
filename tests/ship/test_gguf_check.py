"""A GGUF file beside the model it was made of: planted faults by name, sound files raise nothing."""

from __future__ import annotations

import re
import shutil

import pytest
from safetensors.torch import load_file, save_file

import tests.tiny_gguf
from harness.models.quantisation import Quantisation
from harness.ship.weights.gguf_check import _Held, _judge, check_gguf
from harness.ship.weights.gguf_file import GgufFile
from harness.ship.weights.metadata_check import check_metadata
from harness.ship.weights.nearest_codes import MOST_FAR, fraction_far, holds
from harness.ship.weights.replay import read_changes
from harness.ship.weights.scale import Sums
from harness.ship.weights.tensors import base_tensors, folder_tensors
from harness.training.share.merge import merge
from tests.tiny import CHATML, build_model
from tests.tiny_gguf import write_gguf
from tests.training.test_merge import make_adapter

WEIGHTS = "model.safetensors"
SOUND = ["F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_1", "Q4_0"]


@pytest.fixture(autouse=True)
def as_it_is(monkeypatch):
    monkeypatch.setattr(tests.tiny_gguf, "ENLARGED", 1.0)


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """Base, adapter and the merged folder."""
    folder = tmp_path_factory.mktemp("trained")
    adapter = make_adapter(tiny_model, folder / "adapter")
    merge(adapter, str(tiny_model), folder / "merged", "float32")
    return tiny_model, adapter, folder / "merged"


def check(trained, file):
    base, adapter, merged = trained
    changes, _ = read_changes(adapter)
    before = base_tensors(str(base), base, "float32", Quantisation(), changes)
    opened = GgufFile.open(file)
    return check_gguf(opened, folder_tensors(merged), "llamacpp", base=before, changes=changes)


def kinds(checked):
    return [finding.kind for finding in checked.findings]


def changed(folder, target, change):
    shutil.copytree(folder, target)
    save_file(change(dict(load_file(target / WEIGHTS))), target / WEIGHTS, {"format": "pt"})
    return target


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_file_raises_nothing(trained, tmp_path, kind):
    checked = check(trained, write_gguf(trained[2], tmp_path / "m.gguf", kind))
    assert checked.state == "equal", checked.findings
    assert "20 tensors compared" in checked.reason and kind in checked.reason
    assert re.search(r"adapter is there (1\.00|0\.99)\d", checked.reason), checked.reason
    assert "no names" not in checked.reason


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_a_file_of_the_base_lacks_the_adapter(trained, tmp_path, kind):
    found = check(trained, write_gguf(trained[0], tmp_path / "m.gguf", kind))
    assert kinds(found) == ["adapter-missing"], found


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize(
    ("times", "name"), [(2, "adapter-applied-twice"), (4, "alpha-differs"), (0.5, "alpha-differs")]
)
def test_a_file_of_another_scale_is_named(trained, tmp_path, kind, times, name):
    base = load_file(trained[0] / WEIGHTS)
    folder = changed(
        trained[2],
        tmp_path / "m",
        lambda t: {key: base[key] + times * (t[key] - base[key]) for key in t},
    )
    found = check(trained, write_gguf(folder, tmp_path / "m.gguf", kind))
    assert kinds(found) == [name], found


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0"])
def test_a_file_of_another_model_is_named(trained, tmp_path, kind):
    """Of another adapter on the same base, and of other weights altogether."""
    base, _, _ = trained
    adapter = make_adapter(base, tmp_path / "adapter", lora_target_modules=("v_proj", "up_proj"))
    merge(adapter, str(base), tmp_path / "other", "float32")
    found = check(trained, write_gguf(tmp_path / "other", tmp_path / "m.gguf", kind))
    assert set(kinds(found)) <= {"quantised-from-another-file", "adapter-missing"} and kinds(found)
    folder = changed(base, tmp_path / "n", lambda t: {key: t[key].flip(0) for key in t})
    found = check(trained, write_gguf(folder, tmp_path / "n.gguf", kind))
    assert kinds(found) == ["quantised-from-another-file"]


def test_rows_in_the_order_of_transformers_are_found(trained, tmp_path, monkeypatch):
    """What an older converter forgot for some models: llama.cpp then turns the wrong pairs."""
    monkeypatch.setattr(tests.tiny_gguf, "_interleaved", lambda values, heads: values)
    found = check(trained, write_gguf(trained[2], tmp_path / "m.gguf", "F16"))
    assert kinds(found) == ["weights-differ"] and "attn_" in found.findings[0].message


@pytest.fixture(scope="module")
def on_the_grid(tiny_model, tmp_path_factory):
    """A base whose numbers are codes of Q4_0 already, and a small adapter on it."""
    import gguf
    import torch

    folder = tmp_path_factory.mktemp("grid")
    q4 = gguf.GGMLQuantizationType.Q4_0

    def rounded(tensor):
        codes = gguf.quants.quantize(tensor.numpy(), q4)
        return torch.from_numpy(gguf.quants.dequantize(codes, q4))

    base = changed(
        tiny_model,
        folder / "base",
        lambda t: {name: rounded(one) if one.ndim == 2 else one for name, one in t.items()},
    )
    made = {}
    for size in (1.0, 0.02):
        adapter = make_adapter(base, folder / f"adapter-{size}")
        file = adapter / "adapter_model.safetensors"
        tensors = load_file(file)
        save_file(
            {name: one * (size if "lora_B" in name else 1) for name, one in tensors.items()}, file
        )
        merge(adapter, str(base), folder / f"merged-{size}", "float32")
        made[size] = base, adapter, folder / f"merged-{size}"
    return made


@pytest.mark.parametrize("present", [True, False])
def test_a_base_of_q8_again_in_q8_is_no_other_file(present):
    """Rounding keeps another part of the change in each matrix, as the real Gemma 3 270M showed."""
    import gguf
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    q8 = gguf.GGMLQuantizationType.Q8_0

    def rounded(numbers):
        return gguf.quants.dequantize(gguf.quants.quantize(numbers, q8), q8)

    held = []
    for steps in (0.2, 0.3, 1.0):
        base = rounded(rng.standard_normal((512, 512)).astype(np.float32))
        added = (steps * 0.02 * rng.standard_normal(base.shape)).astype(np.float32)
        given, stored = base + added, rounded(base + added * present)
        sums = Sums.of(str(steps), torch.from_numpy(added), torch.from_numpy(stored - base))
        near = holds(stored, given, "Q8_0")
        assert near is present
        held.append(_Held(str(steps), "Q8_0", 0.007, True, 1.0, sums, near))
    kept = [one.sums.k for one in held]
    assert (max(kept) - min(kept) > 0.02) is present, "else the regression says it alone"
    assert [one.kind for one in _judge(held, "m.gguf")] == ([] if present else ["adapter-missing"])


def test_rounding_that_takes_a_small_change_away_is_no_other_file(on_the_grid, tmp_path):
    """The codes are the nearest to base and adapter, and are still nearly those of the base."""
    trained = on_the_grid[0.02]
    found = check(trained, write_gguf(trained[2], tmp_path / "m.gguf", "Q4_0"))
    assert kinds(found) == ["adapter-rounded-away"], found
    assert "% of the adapter's change" in found.findings[0].message
    found = check(trained, write_gguf(trained[2], tmp_path / "n.gguf", "Q8_0"))
    assert found.state == "equal", found


def test_a_file_of_a_base_on_the_grid_still_lacks_a_larger_adapter(on_the_grid, tmp_path):
    trained = on_the_grid[1.0]
    found = check(trained, write_gguf(trained[2], tmp_path / "m.gguf", "Q4_0"))
    assert found.state == "equal", found
    found = check(trained, write_gguf(trained[0], tmp_path / "n.gguf", "Q4_0"))
    assert kinds(found) == ["adapter-missing"], found


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_codes_are_the_nearest_to_what_was_quantised_and_to_nothing_else(kind):
    import gguf
    import numpy as np

    rng = np.random.default_rng(0)
    given = rng.standard_normal((64, 256)).astype(np.float32)
    number = gguf.GGMLQuantizationType[kind]
    stored = gguf.quants.dequantize(gguf.quants.quantize(given, number), number)
    other = given + 0.01 * rng.standard_normal(given.shape).astype(np.float32)
    assert fraction_far(stored, given, kind) < 0.2 * MOST_FAR
    assert fraction_far(stored, other, kind) > 2 * MOST_FAR
    assert fraction_far(stored, given, "IQ4_XS") is None


def test_a_head_that_the_file_lacks_is_found(tmp_path, tmp_path_factory):
    """transformers has a head of its own, and llama.cpp would take the embedding."""
    folder = tmp_path / "untied"
    build_model(folder, tie_word_embeddings=False)
    sound = write_gguf(folder, tmp_path / "sound.gguf", "F16")
    opened = GgufFile.open(sound)
    assert check_gguf(opened, folder_tensors(folder), "llamacpp").state == "equal"
    tied = tmp_path / "tied"
    shutil.copytree(folder, tied)
    config = (tied / "config.json").read_text()
    (tied / "config.json").write_text(
        config.replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    )
    tensors = load_file(tied / WEIGHTS)
    del tensors["lm_head.weight"]
    save_file(tensors, tied / WEIGHTS, {"format": "pt"})
    lost = GgufFile.open(write_gguf(tied, tmp_path / "lost.gguf", "F16"))
    assert kinds(check_gguf(lost, folder_tensors(folder), "llamacpp")) == ["tied-head-lost"]


def test_a_sound_file_describes_its_model(trained, tmp_path):
    file = GgufFile.open(write_gguf(trained[2], tmp_path / "m.gguf", "F16"))
    checked = check_metadata(file, trained[2], CHATML, "llamacpp")
    assert checked.state == "equal", checked.findings


FAULTS = {
    "eos-differs": ("add_eos_token_id", lambda value: 0),
    "bos-differs": ("add_bos_token_id", lambda value: 7),
    "add-bos-differs": ("add_add_bos_token", lambda value: True),
    "template-differs": ("add_chat_template", lambda value: value + "{# v2 #}"),
    "context-length-differs": ("add_context_length", lambda value: 1024),
    "rope-differs": ("add_rope_freq_base", lambda value: 500000.0),
    "vocabulary-differs": ("add_token_list", lambda value: [*value[:9], "x", *value[10:]]),
    "merges": ("add_token_merges", lambda value: value[1:]),
    "fewer tokens": ("add_token_list", lambda value: value[:-1]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_wrong_fact_is_named(trained, tmp_path, monkeypatch, fault):
    import gguf

    name, wrong = FAULTS[fault]
    right = getattr(gguf.GGUFWriter, name)
    monkeypatch.setattr(gguf.GGUFWriter, name, lambda self, value: right(self, wrong(value)))
    file = GgufFile.open(write_gguf(trained[2], tmp_path / "m.gguf", "F16"))
    found = check_metadata(file, trained[2], CHATML, "llamacpp")
    assert kinds(found) == [fault if "-" in fault else "vocabulary-differs"], found


def test_an_architecture_without_names_is_not_checked(trained, tmp_path, monkeypatch):
    file = GgufFile.open(write_gguf(trained[2], tmp_path / "m.gguf", "F16"))
    monkeypatch.setitem(vars(file), "architecture", "unheard-of")
    checked = check_gguf(file, folder_tensors(trained[2]), "llamacpp")
    assert checked.state == "not checked" and "unheard-of" in checked.reason
