"""The weights of a merged model: each planted fault is found by name, sound merges raise nothing."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.formats import load_formats
from harness.models.quantisation import Quantisation
from harness.ship.weights.merged_check import check_merged
from harness.ship.weights.replay import read_changes
from harness.ship.weights.scale import Sums, judge_scale
from harness.ship.weights.tensors import base_tensors, folder_tensors
from harness.training.share.merge import merge
from tests.tiny import build_model
from tests.training.small import NF4
from tests.training.test_merge import make_adapter

WEIGHTS = "model.safetensors"
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
KINDS = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "head": {"lora_target_modules": ("q_proj", "lm_head")},
    "tokens": {"formats": ("llama3",)},
}


@pytest.fixture(scope="module")
def models(tiny_model, tmp_path_factory):
    """The tiny model with a tied head, and one with a head of its own."""
    folder = tmp_path_factory.mktemp("untied") / "untied"
    build_model(folder, tie_word_embeddings=False)
    return {"tied": tiny_model, "untied": folder}


def adapter_of(model, folder, kind):
    settings = dict(KINDS[kind])
    known = load_formats()
    formats = [known[name] for name in settings.pop("formats", ())]
    return make_adapter(model, folder, formats=formats, **settings)


@pytest.fixture(scope="module")
def merged(models, tmp_path_factory):
    """(kind, head, dtype) → base, adapter and the merged folder, each made once."""
    made = {}

    def get(kind="lora", head="tied", dtype="float32"):
        if (kind, head, dtype) not in made:
            folder = tmp_path_factory.mktemp(f"{kind}-{head}-{dtype}")
            adapter = adapter_of(models[head], folder / "adapter", kind)
            merge(adapter, str(models[head]), folder / "merged", dtype)
            made[kind, head, dtype] = models[head], adapter, folder / "merged"
        return made[kind, head, dtype]

    return get


def check(base, adapter, folder, dtype="float32", stored=None):
    changes, unknown = read_changes(adapter)
    before = base_tensors(str(base), base, dtype, stored or Quantisation(), changes)
    return check_merged(before, changes, folder_tensors(folder), dtype, unknown)


def damaged(folder, target, change):
    """A copy of a model folder whose tensors went through ``change``."""
    shutil.copytree(folder, target)
    tensors = load_file(target / WEIGHTS)
    save_file(change(dict(tensors)), target / WEIGHTS, {"format": "pt"})
    return target


def kinds(checked):
    return [finding.kind for finding in checked.findings]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["tied", "untied"])
def test_a_sound_merge_equals_the_replay(merged, kind, head):
    checked = check(*merged(kind, head))
    assert checked.state == "equal", checked.findings
    assert "bit for bit" in checked.reason and "not checked" not in checked.reason


PEFT = {
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "saved whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    "patterns": {
        "target_modules": ["q_proj", "v_proj", "up_proj"],
        "rank_pattern": {"v_proj": 2},
        "alpha_pattern": {"layers.1.self_attn.q_proj": 32, "up_proj": 1},
    },
    "rsLoRA and DoRA": {"target_modules": ["q_proj"], "use_rslora": True, "use_dora": True},
    "bias": {"target_modules": ["q_proj"], "lora_bias": True},
}


@pytest.mark.filterwarnings("ignore:.*invalid shape", "ignore:.*save_embedding_layers")
@pytest.mark.parametrize("settings", PEFT.values(), ids=PEFT)
def test_what_peft_itself_merges_equals_the_replay(models, tmp_path, settings):
    """Adapters of other trainers have parts that ours do not train."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    generator = torch.Generator().manual_seed(3)
    if settings.get("lora_bias"):
        config = json.loads((models["untied"] / "config.json").read_text())
        (tmp_path / "base").mkdir()
        (tmp_path / "base" / "config.json").write_text(
            json.dumps(config | {"attention_bias": True})
        )
        base = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(tmp_path / "base"), dtype=torch.float32
        )
        base.save_pretrained(tmp_path / "base")
        place = tmp_path / "base"
    else:
        place = models["untied"]
        base = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    tuned = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **settings))
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    tuned.save_pretrained(tmp_path / "adapter")
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    checked = check(place, tmp_path / "adapter", tmp_path / "merged")
    assert checked.state == "equal", checked.findings
    assert "not checked" not in checked.reason
    original = load_file(place / WEIGHTS)
    fake = damaged(tmp_path / "merged", tmp_path / "m", lambda t: {k: original[k] for k in t})
    assert kinds(check(place, tmp_path / "adapter", fake))[:1] == ["adapter-missing"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["lora", "dora", "tokens"])
def test_in_sixteen_bits_it_equals_it_too(merged, kind, dtype):
    base, adapter, folder = merged(kind, dtype=dtype)
    checked = check(base, adapter, folder, dtype)
    assert checked.state == "equal", checked.findings


@pytest.mark.extras
def test_a_base_that_was_quantised_is_dequantised_for_the_replay(models, tmp_path):
    adapter = make_adapter(models["tied"], tmp_path / "adapter", stored=NF4)
    merge(adapter, str(models["tied"]), tmp_path / "merged", "float32")
    right = check(models["tied"], adapter, tmp_path / "merged", stored=NF4)
    wrong = check(models["tied"], adapter, tmp_path / "merged")
    assert right.state == "equal", right.findings
    assert kinds(wrong) == ["weights-differ"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_itself_lacks_the_adapter(merged, tmp_path, dtype):
    base, adapter, folder = merged(dtype=dtype)
    original = load_file(base / WEIGHTS)
    fake = damaged(folder, tmp_path / "m", lambda t: {k: original[k].to(t[k].dtype) for k in t})
    checked = check(base, adapter, fake, dtype)
    assert kinds(checked) == ["adapter-missing"]
    assert "none of 14" in checked.findings[0].message


def test_an_adapter_that_rounding_hides_is_missed_when_it_is_missing(models, tmp_path):
    """Its change is a hundredth of bfloat16's last place, and still correlates."""
    base = models["tied"]
    adapter = make_adapter(base, tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name in tensors:
        tensors[name] *= 0.02 if "lora_B" in name else 1
    save_file(tensors, adapter / "adapter_model.safetensors")
    merge(adapter, str(base), tmp_path / "merged", "bfloat16")
    sound = check(base, adapter, tmp_path / "merged", "bfloat16")
    original = load_file(base / WEIGHTS)
    fake = damaged(
        tmp_path / "merged", tmp_path / "m", lambda t: {k: original[k].bfloat16() for k in t}
    )
    assert sound.state == "equal" and kinds(check(base, adapter, fake, "bfloat16")) == [
        "adapter-missing"
    ]
    for name in tensors:
        tensors[name] *= 1e-8 if "lora_B" in name else 1
    save_file(tensors, adapter / "adapter_model.safetensors")
    assert kinds(check(base, adapter, fake, "bfloat16")) == ["adapter-below-rounding"]


@pytest.mark.parametrize(
    ("times", "kind", "words"),
    [
        (2, "adapter-applied-twice", "twice"),
        (8, "alpha-differs", "8 times"),
        (0.5, "alpha-differs", "0.5 times"),
        (1.1, "alpha-differs", "1.1 times"),
        (-1, "alpha-differs", "-1 times"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_another_scale_is_named(merged, tmp_path, dtype, times, kind, words):
    base, adapter, folder = merged(dtype=dtype)
    original, exact = load_file(base / WEIGHTS), load_file(merged()[2] / WEIGHTS)

    def scaled(tensors):
        return {
            name: (original[name] + times * (exact[name] - original[name])).to(tensor.dtype)
            for name, tensor in tensors.items()
        }

    checked = check(base, adapter, damaged(folder, tmp_path / "m", scaled), dtype)
    assert kinds(checked) == [kind] and words in checked.findings[0].message


def test_layers_without_the_adapter_are_named(merged, tmp_path):
    base, adapter, folder = merged()
    original = load_file(base / WEIGHTS)
    fake = damaged(folder, tmp_path / "m", lambda t: t | {Q_PROJ: original[Q_PROJ]})
    [finding] = check(base, adapter, fake).findings
    assert finding.kind == "adapter-missing"
    assert finding.message == f"the adapter is missing in 1 of 14 tensors: {Q_PROJ}"


def test_one_other_number_is_found(merged, tmp_path):
    base, adapter, folder = merged()

    def touched(tensors):
        tensors[Q_PROJ][3, 5] *= 1 + 2**-10
        return tensors

    [finding] = check(base, adapter, damaged(folder, tmp_path / "m", touched)).findings
    assert finding.kind == "weights-differ" and Q_PROJ in finding.message


def test_one_unit_in_the_last_place_is_no_finding(merged, tmp_path):
    base, adapter, folder = merged()

    def touched(tensors):
        tensors[Q_PROJ][3, 5] = torch.nextafter(tensors[Q_PROJ][3, 5], torch.tensor(9.0))
        return tensors

    checked = check(base, adapter, damaged(folder, tmp_path / "m", touched))
    assert checked.state == "equal" and "others within rounding" in checked.reason


def test_another_base_is_recognised_by_what_the_adapter_leaves_alone(merged, tmp_path):
    base, adapter, folder = merged()
    generator = torch.Generator().manual_seed(5)

    def other(tensors):
        return {
            name: tensor * (1 + 0.05 * torch.randn(tensor.shape, generator=generator))
            for name, tensor in tensors.items()
        }

    assert kinds(check(base, adapter, damaged(folder, tmp_path / "m", other))) == [
        "base-of-another-model"
    ]


@pytest.mark.parametrize("kind", ["head", "tokens"])
def test_what_the_adapter_brings_whole_is_missed(merged, tmp_path, kind):
    base, adapter, folder = merged(kind, "untied")
    original = load_file(base / WEIGHTS)
    name = "lm_head.weight"
    start = original[name]

    def without(tensors):
        tensors[name][: len(start)] = start
        tensors[name][len(start) :] = 0
        return tensors

    found = kinds(check(base, adapter, damaged(folder, tmp_path / "m", without)))
    assert found == (["adapter-missing"] if kind == "head" else ["weights-differ"])


@pytest.mark.parametrize("head", ["tied", "untied"])
def test_a_head_of_its_own_that_gets_tied_is_found(merged, tmp_path, head):
    base, adapter, folder = merged("head", head)
    fake = damaged(folder, tmp_path / "m", lambda t: {k: t[k] for k in t if k != "lm_head.weight"})
    config = json.loads((fake / "config.json").read_text())
    config["tie_word_embeddings"] = True
    (fake / "config.json").write_text(json.dumps(config))
    assert kinds(check(base, adapter, fake)) == ["tied-head-lost"]


def test_a_missing_and_an_additional_tensor_are_named(merged, tmp_path):
    base, adapter, folder = merged()
    fake = damaged(
        folder, tmp_path / "m", lambda t: {("x.weight" if k == Q_PROJ else k): t[k] for k in t}
    )
    found = check(base, adapter, fake)
    assert kinds(found) == ["tensor-missing", "tensor-unexpected"]
    assert Q_PROJ in found.findings[0].message and "x.weight" in found.findings[1].message


def test_tensors_that_the_replay_does_not_know_are_not_called_equal(merged):
    base, adapter, folder = merged()
    changes, _ = read_changes(adapter)
    del changes[Q_PROJ]
    before = base_tensors(str(base), base, "float32", Quantisation(), changes)
    odd = ("model.layers.0.self_attn.q_proj.lora_C.weight",)
    checked = check_merged(before, changes, folder_tensors(folder), "float32", odd)
    assert checked.state == "equal" and "not checked" in checked.reason and odd[0] in checked.reason


def test_the_scale_is_sharp_in_noise_much_larger_than_the_change():
    """Noise of 7 % of the weights, as Q4_K makes it, and a change of 0.5 %."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for times in (0.0, 1.0, 2.0, 8.0):
        sums = []
        for layer in range(30):
            weights = torch.randn(400, 400, generator=generator)
            change = 0.005 * torch.randn(400, 400, generator=generator)
            noise = 0.07 * torch.randn(400, 400, generator=generator)
            sums.append(Sums.of(str(layer), change, times * change + noise * weights.std()))
        found[times] = judge_scale(sums)
    assert [one.kind for one in found.values()] == [
        "adapter-missing",
        "",
        "adapter-applied-twice",
        "alpha-differs",
    ]
    assert all(abs(one.k - times) < 6 * one.error < 0.1 for times, one in found.items())
