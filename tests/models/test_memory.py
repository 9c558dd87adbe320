"""What the memory of a device is, and which errors say that it is used up."""

from __future__ import annotations

import pytest
import torch

from harness.models.device import free_bytes, is_out_of_memory, total_bytes


def test_free_memory_is_a_part_of_all():
    total = total_bytes("cpu")
    assert total
    assert 2**28 < free_bytes("cpu") <= total


def test_the_cpus_own_error_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 300.00 MiB"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.3 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_a_used_up_memory_is_one(error, expected):
    assert is_out_of_memory(error) is expected
