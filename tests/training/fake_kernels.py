"""FlashAttention's kernel for rows of different lengths, by plain operations: for machines without."""

from __future__ import annotations

import pytest
import torch

from harness.training.step import row_attention


def exact(q, k, v, starts, scale, window=0):
    """Attention of each row by its scores, [tokens, heads, width], of key heads that are shared."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    lengths = torch.tensor(starts[1:]) - torch.tensor(starts[:-1])
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    at = torch.arange(len(rows))
    sees = (rows[:, None] == rows) & (at[:, None] >= at)
    if window:
        sees &= at[:, None] - at < window
    scores = torch.einsum("qhw,khw->hqk", q, k).float() * scale
    probabilities = scores.masked_fill(~sees, float("-inf")).softmax(-1).to(v.dtype)
    return torch.einsum("hqk,khw->qhw", probabilities, v).contiguous()


def forward(q, k, v, starts, same, longest, also, dropout, causal, debug, **options):
    """As ``aten._flash_attention_forward``."""
    lengths = torch.diff(starts)
    assert torch.equal(starts, same) and starts.dtype == torch.int32 and starts[0] == 0
    assert longest == also == int(lengths.max()) and causal and not dropout and not debug
    assert q.shape[0] == k.shape[0] == v.shape[0] == int(starts[-1])
    assert all(x.stride(-1) == 1 for x in (q, k, v))
    window = options.pop("window_size_left", -1) + 1
    assert options.pop("window_size_right", 0) == 0 and set(options) == {"scale"}
    out = exact(q, k, v, starts.tolist(), options["scale"], window)
    return out, out.new_ones(2), out.new_ones(3), out.new_ones(4), None


def backward(grad, q, k, v, out, lse, starts, same, longest, also, *rest, **options):
    """As ``aten._flash_attention_backward``; in a fixed order, it has to be asked."""
    dropout, causal, state, unused = rest
    assert (len(lse), len(state), len(unused)) == (2, 3, 4) and out.shape == grad.shape
    assert torch.are_deterministic_algorithms_enabled()
    with torch.enable_grad():
        copies = [x.detach().requires_grad_() for x in (q, k, v)]
        again, *_ = forward(*copies, starts, same, longest, also, dropout, causal, False, **options)
        return torch.autograd.grad(again, copies, grad)


@pytest.fixture
def kernels(monkeypatch):
    """Let rows be kept apart by this kernel, on a CPU."""
    from harness.training.step.handwritten import decoder, packed_rows

    monkeypatch.setattr(row_attention, "has_kernel", lambda *_: True)
    monkeypatch.setattr(row_attention, "_forward_kernel", lambda: forward)
    monkeypatch.setattr(row_attention, "_backward_kernel", lambda: backward)
    for module in (packed_rows, decoder):
        monkeypatch.setattr(module, "by_bounds", lambda device: True)
