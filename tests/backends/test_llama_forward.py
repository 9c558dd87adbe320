"""The hand-written forward passes against transformers' and peft's modules."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends import GenerateRequest, ScoreRequest
from harness.backends.local import forward
from harness.backends.local.backend import TransformersBackend
from harness.backends.local.decoding import _staying
from harness.backends.local.forward import ModuleForward, forward_of
from harness.backends.local.llama_forward import LlamaForward
from harness.backends.local.packing import pack, tensors
from harness.backends.local.slots import Slots
from harness.models import switch_adapter
from harness.models.adapters import base_only
from harness.models.llama.recognise import take_apart
from harness.models.lora_forward import install_lean_lora
from harness.tokens.encode import prompt_ids
from tests.backends.test_local_backend import OPTIONS, QUESTIONS, answered, asked, plain_logprobs
from tests.device import chosen_device
from tests.training.handwritten.test_handwritten_decoder import ALL, SHAPES, make

IDS = ("chatml", "alpaca-newline", "llama3")


def inferring(*args, **kwargs):
    """A random model of three layers with an adapter, ready for inference."""
    loaded = make(*args, **kwargs)
    loaded.lean_lora = install_lean_lora(loaded.model.eval())
    return loaded


def packs_of(loaded, engine, rows, wanted):
    ids, positions, bias = tensors(
        pack([[row] for row in rows], 24), getattr(torch, loaded.dtype), loaded.device
    )
    with loaded.inference():
        return engine.packs(
            ids,
            positions,
            bias,
            torch.tensor([at % ids.numel() for at in wanted], device=chosen_device()),
        ).float()


def by_hand(loaded, dtype=None):
    return LlamaForward(take_apart(loaded, 40), dtype or getattr(torch, loaded.dtype))


ADAPTERS = [
    {"target_modules": ["k_proj", "up_proj"]},
    {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"up_proj": 20}},
    {"use_rslora": True},
]
ROWS = [[3, 5, 7, 11, 13], [3, 5, 8], [3, 5, 7, 11, 2, 6, 9, 1], [90] * 30, [4]]


@pytest.mark.parametrize(
    ("kind", "changes", "lora"),
    [("llama", changes, {}) for changes in ({}, *SHAPES)]
    + [("mistral", {"sliding_window": 40}, {}), ("qwen2", {}, {})]
    + [("llama", {}, lora) for lora in ADAPTERS],
    ids=str,
)
def test_logits_of_packs_are_those_of_the_modules(kind, changes, lora):
    loaded = inferring(kind, lora=lora, **changes)
    wanted = [0, 4, 5, 40, 2]
    torch.testing.assert_close(
        packs_of(loaded, by_hand(loaded), ROWS, wanted),
        packs_of(loaded, ModuleForward(loaded), ROWS, wanted),
        rtol=2e-5,
        atol=2e-5,
    )
    assert isinstance(forward_of(loaded, 40), LlamaForward)


@pytest.mark.parametrize("lora", [{}, *ADAPTERS], ids=str)
def test_with_the_adapter_off_the_logits_are_those_of_the_base(lora):
    loaded = inferring(lora=lora)
    wanted = [0, 4, 5, 40, 2]
    adapted = packs_of(loaded, forward_of(loaded, 40), ROWS, wanted)
    with base_only(loaded):
        assert isinstance(forward_of(loaded, 40), LlamaForward)
        off = packs_of(loaded, forward_of(loaded, 40), ROWS, wanted)
    base = replace(loaded, model=loaded.model.unload())
    expected = packs_of(base, ModuleForward(base), ROWS, wanted)
    torch.testing.assert_close(off, expected, rtol=2e-5, atol=2e-5)
    assert not torch.allclose(adapted, expected, atol=1e-3)


def test_a_merged_adapter_that_is_switched_off_is_left_to_the_modules():
    """Its weights hold the adapter, and peft takes it out of them."""
    loaded = inferring()
    loaded.model.merge_adapter()
    with base_only(loaded):
        assert isinstance(forward_of(loaded, 40), ModuleForward)


LOADED = inferring()
prompts = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=9), min_size=1, max_size=5)
moves = st.lists(st.one_of(prompts, st.just("step"), st.frozensets(st.integers(0, 8))), max_size=8)


@settings(max_examples=40, deadline=None)
@given(prompts, moves)
def test_rows_that_enter_step_and_leave_give_what_the_modules_give(first, script):
    """Any history of slots: the same logits after each call."""
    engines = [
        Slots(LOADED, engine, 16, 24, 64) for engine in (by_hand(LOADED), ModuleForward(LOADED))
    ]
    with LOADED.inference():
        for call in [first, *script]:
            alive = len(engines[0].lengths)
            found = []
            if call == "step":
                found = [
                    engine.step([at % 7 for at in range(alive)]) for engine in engines if alive
                ]
            elif isinstance(call, frozenset):
                order = _staying(
                    [SimpleNamespace(answer=at if at in call else None) for at in range(alive)]
                )
                for engine in engines:
                    engine.keep(order)
            elif alive + len(call) <= 16:
                found = [engine.enter(call) for engine in engines]
            if found:
                torch.testing.assert_close(*found, rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_16_bit_model_stays_as_near_to_float32_as_the_modules(dtype):
    """In its own arithmetic, and nearer in float32: the weights are the same 16-bit numbers."""
    half = inferring(dtype="bfloat16")
    truth = inferring()
    truth.model.load_state_dict(
        {name: value.float() for name, value in half.model.state_dict().items()}
    )
    wanted = list(range(20))
    exact = packs_of(truth, ModuleForward(truth), ROWS, wanted)
    ours, theirs = (
        (packs_of(half, engine, ROWS, wanted) - exact).norm() / exact.norm()
        for engine in (by_hand(half, dtype), ModuleForward(half))
    )
    assert ours < 1.3 * theirs if dtype == torch.bfloat16 else ours < 1e-4


def test_keys_of_a_16_bit_model_are_kept_in_16_bits():
    half = inferring(dtype="bfloat16")
    engine = by_hand(half, torch.float32)
    slots = Slots(half, engine, 4, 16, 64)
    with half.inference():
        slots.enter([[3, 4, 5], [3, 4]])
        stepped = slots.step([6, 7])
        again = packs_of(half, engine, [[3, 4, 5, 6], [3, 4, 7]], [3, 4])
    assert {store.dtype for stores in engine.stores for store in stores} == {torch.bfloat16}
    torch.testing.assert_close(stepped, again, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("kind", "changes", "lora"),
    [
        ("qwen3", {}, {}),
        ("llama", {"hidden_act": "gelu"}, {}),
        ("llama", {}, {"use_dora": True}),
        ("mistral", {"sliding_window": 8}, {}),
        ("llama", {}, {"target_modules": [*ALL, "lm_head"]}),
        ("llama", {}, {"trainable_token_indices": [3, 4]}),
    ],
    ids=str,
)
def test_what_is_not_plain_is_run_by_the_modules(kind, changes, lora):
    assert isinstance(forward_of(make(kind, lora=lora, **changes), 20), ModuleForward)


def test_what_is_too_large_to_be_copied_is_run_by_the_modules(monkeypatch):
    monkeypatch.setattr(forward, "_MAX_COPIED", 1000)
    assert isinstance(forward_of(LOADED, 20), ModuleForward)


def answers_of(backend, requests):
    return {key: answer.token_ids for batch in backend.generate(requests) for key, answer in batch}


@pytest.mark.parametrize("copied", [0, 1 << 40], ids=["modules", "by hand"])
def test_with_an_adapter_answers_equal_generate_row_by_row(tiny, monkeypatch, copied):
    """Log-probabilities are those of a plain pass, also after the weights have changed."""
    from peft import LoraConfig, get_peft_model

    monkeypatch.setattr(forward, "_MAX_COPIED", copied)
    adapted = replace(
        tiny,
        model=get_peft_model(
            tiny.model, LoraConfig(r=4, lora_alpha=8, target_modules=list(ALL))
        ).eval(),
    )
    adapted.lean_lora = install_lean_lora(adapted.model)
    backend = TransformersBackend(adapted, budget=300, most=4)
    requests = [
        GenerateRequest(f"{format_id}|{q}", asked(format_id, q, backend), 8)
        for format_id in IDS
        for q in QUESTIONS
    ]
    scores = ScoreRequest(
        "k", tuple(answered("chatml", "fox", option, backend) for option in OPTIONS)
    )
    seen = []
    for scale in (0.0, 0.3):
        torch.manual_seed(5)
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=scale)
        found = answers_of(backend, requests)
        for request in requests:
            ids = torch.tensor(
                [prompt_ids(request.prompt, adapted.tokenizer)], device=chosen_device()
            )
            out = adapted.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=8,
                do_sample=False,
            )[0, ids.shape[1] :].tolist()
            assert out[: len(found[request.key])] == list(found[request.key])
        [[(_, scorings)]] = list(backend.score([scores]))
        for scored, rendered in zip(scorings, scores.answers, strict=True):
            assert list(scored.token_logprobs) == pytest.approx(
                plain_logprobs(adapted, rendered), abs=1e-4
            )
        seen.append(found)
    assert seen[0] != seen[1], "the adapter does something"
    adapted.adapter = "x"
    switch_adapter(adapted, None)
    assert answers_of(backend, requests) == seen[0], "an adapter that is taken off is gone"


def test_the_fingerprint_names_the_arithmetic_where_it_is_not_the_models_own(tiny, monkeypatch):
    assert "arithmetic" not in TransformersBackend(tiny).fingerprint
    half = replace(tiny, model=tiny.model.to(torch.bfloat16), dtype="bfloat16")
    for dtype, named in ((torch.float32, {"arithmetic": "float32"}), (torch.bfloat16, {})):
        monkeypatch.setattr(forward, "matmul_dtype", lambda loaded, dtype=dtype: dtype)
        fingerprint = TransformersBackend(half).fingerprint
        assert {key: value for key, value in fingerprint.items() if key == "arithmetic"} == named
