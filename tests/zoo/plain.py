"""The reference: what plain transformers and peft compute, one row at a time, in float32."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.records import Encoded

#: Ids that two models both read: words, a control token, bytes, more of them than a window holds.
PROBE = (5, 9, 300, 44, 1, 77, 200, 3, 310, 12, 40, 61, 98, 99, 100, 7, 250, 18, 33, 90, 41, 8) * 2
#: Nats that a log-probability may differ; a logit may by this part of the largest.
CLOSE = 1e-4


def plain_model(folder: Path) -> Any:
    """A model folder in float32, by the class that it names. It holds each weight and no other."""
    import transformers

    [stored] = json.loads((folder / "config.json").read_text())["architectures"]
    model, found = getattr(transformers, stored).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    problems = {kind: keys for kind, keys in found.items() if keys}
    assert not problems, problems
    return model.eval()


def with_adapter(folder: Path, adapter: Path) -> Any:
    """The plain model with an adapter that peft loads."""
    from peft import PeftModel

    return PeftModel.from_pretrained(plain_model(folder), adapter).eval()


def logits(model: Any, ids: Sequence[int] = PROBE) -> torch.Tensor:
    """The logits after each id of a row alone, without a cache, [ids, vocabulary]."""
    with torch.no_grad():
        return after_each(model, ids)


def after_each(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """As ``logits``, with a gradient."""
    takes = inspect.signature(model.forward).parameters
    cache = {"use_cache": False} if {"use_cache", "kwargs"} & takes.keys() else {}
    return model(input_ids=torch.tensor([list(ids)]), **cache).logits[0].float()


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    """Two models' logits are the same but for rounding."""
    assert one.isfinite().all() and other.isfinite().all()
    largest = max(1.0, other.abs().max().item())
    assert (one - other).abs().max().item() <= CLOSE * largest


def row_losses(model: Any, row: Encoded) -> torch.Tensor:
    """The cross-entropy of each trained token of a row alone, in nats."""
    trained = [at for at, wanted in enumerate(row.trained) if wanted and at]
    after = after_each(model, row.ids)
    return torch.nn.functional.cross_entropy(
        after[[at - 1 for at in trained]],
        torch.tensor([row.ids[at] for at in trained]),
        reduction="none",
    )


def is_greedy(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> bool:
    """Whether each token of the answer is the likeliest after those before it.

    A token may miss that by as little as rounding changes.
    """
    after = logits(model, [*prompt, *answer])[len(prompt) - 1 : -1]
    chosen = after[range(len(answer)), list(answer)]
    return bool((after.max(-1).values - chosen <= CLOSE).all())


def factors(adapter: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The stored weights of an adapter, by name."""
    from safetensors.torch import load_file

    yield from load_file(adapter / "adapter_model.safetensors").items()


def gradient(model: Any) -> torch.Tensor:
    """The gradient of all that is trained, in one row; zero where none arrived."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    return torch.cat(
        [
            (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()
            for _, weight in sorted(trained)
        ]
    )
