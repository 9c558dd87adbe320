"""How much is computed at a time: the formula against real caches, and its limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.backends import GenerateRequest
from harness.backends.local import room
from harness.backends.local.backend import TransformersBackend
from harness.backends.local.room import (
    ELSEWHERE,
    ON_CPU,
    Footprint,
    Room,
    cache_bytes,
    fitting,
    footprint,
    room_for,
)
from tests.backends.test_local_backend import asked

sizes = st.integers(1, 1 << 34)
footprints = st.builds(Footprint, *[st.integers(1, 1 << 24)] * 3)


def dynamic_cache_bytes(model, tokens):
    """What transformers' own cache holds of one row."""
    with torch.no_grad():
        cache = model(torch.ones(1, tokens, dtype=torch.long), use_cache=True).past_key_values
    return sum(
        x.numel() * x.element_size() for layer in cache.layers for x in (layer.keys, layer.values)
    )


def random_model(kind, tokenizer, **changes):
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), num_hidden_layers=3, **changes
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
COMPRESSED = {
    **SMALL,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": None,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "first_k_dense_replace": 3,
    "n_routed_experts": 2,
    "n_group": 1,
    "topk_group": 1,
}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Llama", {**SMALL, "num_key_value_heads": 4}),
        ("Llama", {**SMALL, "num_key_value_heads": 2}),
        ("Mistral", {**SMALL, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": None}),
        ("Qwen3", {**SMALL, "num_key_value_heads": 2, "head_dim": 24}),
        ("GPT2", {"n_embd": 32, "n_head": 4}),
        ("DeepseekV3", COMPRESSED),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cached_token_takes_what_it_takes_in_transformers_cache(
    tiny, monkeypatch, kind, changes, dtype
):
    model = random_model(kind, tiny.tokenizer, **changes).to(getattr(torch, dtype))
    loaded = replace(tiny, model=model, dtype=dtype)
    if kind in ("Llama", "Mistral", "Qwen3"):  # by the formula, not by a measurement
        monkeypatch.setattr(room, "_measured", lambda loaded: None)
    assert cache_bytes(loaded) == (dynamic_cache_bytes(model, 40) // 40, 0)
    assert footprint(loaded).cached_token > cache_bytes(loaded)[0], "and copies are counted"


def test_a_state_is_counted_by_row_and_not_by_token(tiny):
    mamba = random_model("Mamba", tiny.tokenizer, hidden_size=32)
    token, row = cache_bytes(replace(tiny, model=mamba))
    layers, inner = 3, mamba.config.intermediate_size
    states = layers * inner * (mamba.config.state_size + mamba.config.conv_kernel) * 4
    assert token <= 64 and row == pytest.approx(states, rel=0.2)


def test_a_model_that_cannot_be_measured_is_guessed_high(tiny, monkeypatch):
    right, _ = cache_bytes(tiny)
    monkeypatch.setattr(room, "PLAIN", ())
    monkeypatch.setattr(room, "_measured", lambda loaded: None)
    guessed, _ = cache_bytes(replace(tiny))
    assert guessed >= right


@given(sizes, sizes, footprints)
def test_more_memory_never_gives_less_room(one, other, each):
    less, more = (fitting(free, each, ELSEWHERE) for free in sorted((one, other)))
    for name in ("cache_tokens", "rows", "pass_tokens"):
        assert 1 <= getattr(less, name) <= getattr(more, name)


@given(sizes, footprints)
def test_what_fits_is_never_more_than_the_free_memory(free, each):
    found = fitting(free, each, ELSEWHERE)
    taken = [
        (found.cache_tokens, each.cached_token),
        (found.rows, each.row),
        (found.pass_tokens, each.pass_token),
    ]
    # one of each is always tried; memory that ends there is said in one line
    assert sum(count * size for count, size in taken if count > 1) <= 0.81 * free
    for (count, size), share in zip(taken, (0.5, 0.1, 0.2), strict=True):
        most = dict(zip((0.5, 0.1, 0.2), ELSEWHERE, strict=True))[share]
        assert count == most or (count + 1) * 1.25 * size >= 0.99 * share * free, "nor far less"


@given(sizes, footprints)
def test_a_little_less_memory_mostly_gives_the_same_room(free, each):
    """Each limit is one of four in a doubling."""
    limits = fitting(free, each, ELSEWHERE)
    for limit in (limits.cache_tokens, limits.rows, limits.pass_tokens):
        digits = f"{limit:b}".rstrip("0")
        assert limit in ELSEWHERE or len(digits) <= 3


def test_a_processor_keeps_its_constants_unless_its_memory_is_small(tiny, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device: 8 << 30)
    assert room_for(tiny) == Room(16384, 128, 2048) == Room(*ON_CPU)
    monkeypatch.setattr(room, "free_bytes", lambda device: 8 << 20)
    small = room_for(tiny)
    assert small.cache_tokens < 16384 and small.pass_tokens < 2048


def test_a_card_has_the_room_of_its_memory(tiny, monkeypatch):
    card = replace(tiny, device="cuda")
    asked_of = []
    monkeypatch.setattr(room, "free_bytes", lambda device: asked_of.append(device) or 1 << 30)
    assert room_for(card) == fitting(1 << 30, footprint(card), ELSEWHERE)
    assert asked_of == ["cuda"]
    assert room_for(card).cache_tokens > ON_CPU[0]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_the_user_asks_for_is_taken_as_it_is(tiny, monkeypatch, device):
    monkeypatch.setattr(room, "free_bytes", lambda device: 1 << 30)
    some = replace(tiny, device=device)
    auto = room_for(some)
    passes = 2048 if device == "cpu" else 50000
    assert room_for(some, tokens=50000) == Room(50000, auto.rows, passes)
    assert room_for(some, rows=7) == Room(auto.cache_tokens, 7, auto.pass_tokens)
    monkeypatch.setattr(room, "free_bytes", lambda device: 1 / 0)
    assert room_for(some, tokens=300, rows=2) == Room(300, 2, 300), "nothing is asked for"


def test_rows_at_a_time_are_at_most_those_of_the_room(tiny, monkeypatch):
    backend = TransformersBackend(tiny, most=2)
    seen = []
    plain = Room.slots
    monkeypatch.setattr(
        Room, "slots", lambda self, *args: seen.append(plain(self, *args)) or seen[-1]
    )
    requests = [
        GenerateRequest(str(at), asked("chatml", "fox", backend), 2 + at) for at in range(5)
    ]
    assert sum(map(len, backend.generate(requests))) == 5
    assert seen == [2]
