"""The dtype in which hand-written forward passes multiply."""

from __future__ import annotations

import pytest
import torch

from harness.models import LoadedModel, ModelSource, device
from harness.models.device import matmul_dtype


def loaded(dtype, where="cpu"):
    return LoadedModel(ModelSource("x", "", None, ""), None, None, dtype, where)


@pytest.mark.parametrize("faster", [True, False])
@pytest.mark.parametrize(
    ("dtype", "where"),
    [("float32", "cpu"), ("float16", "cpu"), ("bfloat16", "cuda"), ("bfloat16", "cpu")],
)
def test_only_bfloat16_on_a_cpu_is_multiplied_in_float32(monkeypatch, dtype, where, faster):
    monkeypatch.setattr(device, "_float32_is_faster", lambda: faster)
    wide = faster and (dtype, where) == ("bfloat16", "cpu")
    assert matmul_dtype(loaded(dtype, where)) == (torch.float32 if wide else getattr(torch, dtype))


def test_a_model_keeps_its_choice(monkeypatch):
    model = loaded("bfloat16")
    monkeypatch.setattr(device, "_float32_is_faster", lambda: True)
    assert matmul_dtype(model) == torch.float32
    monkeypatch.setattr(device, "_float32_is_faster", lambda: False)
    assert matmul_dtype(model) == torch.float32


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"), [(2.0, 1.0, True), (1.1, 1.0, False), (1.0, 2.0, False)]
)
def test_the_faster_is_chosen_by_its_best_time(monkeypatch, tmp_path, narrow, wide, expected):
    """One slow product changes nothing, nor does a lead below the margin. Products are timed once."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    calls = {
        torch.bfloat16: iter([9.0] + [narrow] * 6),
        torch.float32: iter([9.0, 9.0] + [wide] * 5),
    }
    monkeypatch.setattr(device, "_seconds", lambda dtype: next(calls[dtype]))
    device._float32_is_faster.cache_clear()
    for _ in range(2):  # the second time from the cache folder: the calls would be used up
        assert device._float32_is_faster() is expected
        device._float32_is_faster.cache_clear()


@pytest.mark.parametrize(
    ("width", "capability", "expected"),
    [
        (64, (8, 6), True),
        (192, (8, 9), True),
        (256, (9, 0), True),
        (256, (8, 0), True),
        (256, (8, 6), False),
        (256, (10, 0), True),
        (256, (12, 0), False),
        (192, (12, 0), True),
        (264, (9, 0), False),
        (60, (9, 0), False),
        (64, (7, 5), False),
    ],
)
def test_the_heads_of_flash_attention(width, capability, expected):
    assert device.takes_heads(width, capability) is expected
