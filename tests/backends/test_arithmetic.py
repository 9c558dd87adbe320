"""The dtype that hand-written passes multiply in."""

from __future__ import annotations

import pytest
import torch

from harness.backends.local import forward as arithmetic
from harness.backends.local.forward import matmul_dtype
from harness.models import LoadedModel, ModelSource


def loaded(dtype, device="cpu"):
    return LoadedModel(ModelSource("x", "", None, ""), None, None, dtype, device)


@pytest.mark.parametrize("faster", [True, False])
@pytest.mark.parametrize(
    ("dtype", "device"),
    [("float32", "cpu"), ("float16", "cpu"), ("bfloat16", "cuda"), ("bfloat16", "cpu")],
)
def test_only_bfloat16_on_a_cpu_is_multiplied_in_float32(monkeypatch, dtype, device, faster):
    monkeypatch.setattr(arithmetic, "_wide_is_faster", lambda: faster)
    wide = faster and (dtype, device) == ("bfloat16", "cpu")
    assert matmul_dtype(loaded(dtype, device)) == (torch.float32 if wide else getattr(torch, dtype))


def test_a_model_keeps_its_choice(monkeypatch):
    model = loaded("bfloat16")
    monkeypatch.setattr(arithmetic, "_wide_is_faster", lambda: True)
    assert matmul_dtype(model) == torch.float32
    monkeypatch.setattr(arithmetic, "_wide_is_faster", lambda: False)
    assert matmul_dtype(model) == torch.float32


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"), [(2.0, 1.0, True), (1.1, 1.0, False), (1.0, 2.0, False)]
)
def test_the_faster_is_told_by_its_best_time(monkeypatch, narrow, wide, expected):
    """One slow product does not sway it, and a slight lead is none."""
    calls = {
        torch.bfloat16: iter([9.0] + [narrow] * 20),
        torch.float32: iter([9.0, 9.0] + [wide] * 20),
    }
    monkeypatch.setattr(arithmetic, "_seconds", lambda dtype: next(calls[dtype]))
    arithmetic._wide_is_faster.cache_clear()
    assert arithmetic._wide_is_faster() is expected
    arithmetic._wide_is_faster.cache_clear()
