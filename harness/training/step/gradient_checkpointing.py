"""Gradient checkpointing: keep only the input of each layer, and recompute the rest."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.models.architecture import context_window
from harness.models.device import free_bytes, is_out_of_memory, release
from harness.models.quiet import first_line
from harness.records import Encoded
from harness.training.data.examples import Example
from harness.training.data.pass_sizes import PassSize
from harness.training.step.lora import begin_training
from harness.training.step.loss import plain_losses

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from harness.models import LoadedModel

#: Fraction of the free memory that activations may take before they are recomputed.
LARGEST_FRACTION = 0.7
#: Tokens of the longest probe, if the model's window is not shorter.
_LONGEST_PROBE = 128


def enable_checkpointing(
    setting: bool | Literal["auto"],
    loaded: LoadedModel,
    model: PeftModel,
    passes: Iterable[PassSize],
    *,
    sharded: bool = False,
) -> None:
    """Switch gradient checkpointing on where it is needed.

    ``passes`` are the sizes of the run's forward passes (``pass_sizes``); only "auto" reads them.
    It measures what a pass keeps for the backward pass and compares the largest one with the free
    memory; over a base that is ``sharded``, because it does not fit a card, it is on. The result of
    a step is the same either way. Raises HarnessError for a model without checkpointing when the
    setting is true; "auto" then leaves it off.
    """
    if setting == "auto":
        why = "the base is sharded"
        if not sharded:
            why = why_needed(loaded, model, frozenset(passes))
        if why:
            try:
                _enable(model)
            except HarnessError as error:
                _say(f"off, although {why}: {error.message}")
            else:
                _say(f"on: {why}")
    elif setting:
        _enable(model)


def _say(text: str) -> None:
    print(f"gradient checkpointing: {text}", file=sys.stderr, flush=True)


def _enable(model: PeftModel) -> None:
    """Use non-reentrant checkpointing.

    The reentrant kind leaves factors inside a layer without gradient unless the embedding's output
    requires one. transformers adds a hook for that; here it would only cost a backward pass through
    the first layer.
    """
    base: Any = model.get_base_model()
    recent = getattr(base, "activation_checkpointing_enable", None)
    enable = recent or base.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise HarnessError(
            f"gradient_checkpointing = true: {error}",
            hint="leave it out; a smaller max_tokens_per_batch saves memory too",
        ) from None
    base.disable_input_require_grads()


def why_needed(loaded: LoadedModel, model: PeftModel, passes: Collection[PassSize]) -> str:
    """Why activations must be recomputed, or "" where the largest of these passes fits without.

    A probe that runs out of memory is an answer too. Any other error of the probe is not the run's:
    the answer then is the one that needs less memory.
    """
    try:
        growth = measure_growth(loaded, model)
        free = free_bytes(loaded.device)
    except Exception as error:  # a probe runs code of any architecture and any kernel
        memory = is_out_of_memory(error)
        text = first_line(error) or type(error).__name__
    else:
        needed, size = max(
            ((growth.bytes(size), size) for size in passes),
            key=lambda found: found[0],
            default=(0, PassSize(0, 0, 0)),
        )
        if needed <= LARGEST_FRACTION * free:
            return ""
        return (
            f"a pass of {size.tokens:,} tokens keeps {needed / 2**30:.2f} GiB, "
            f"and {free / 2**30:.2f} GiB are free"
        )
    release(loaded.device)  # outside: the error's traceback holds what the probe kept
    return "a short pass ran out of memory" if memory else f"a short pass failed ({text})"


@dataclass(frozen=True, slots=True)
class Growth:
    """What a pass keeps for its backward pass: the bytes of one token, supervised token and score,
    and a constant."""

    constant: float
    token: float
    supervised: float
    score: float

    def bytes(self, size: PassSize) -> int:
        """Bytes that a pass of this size keeps."""
        grows = self.token * size.tokens + self.supervised * size.supervised
        return round(self.constant + grows + self.score * size.scores)


def measure_growth(loaded: LoadedModel, model: PeftModel) -> Growth:
    """Measure four short passes: three lengths, and the longest with half as many logits.

    Attention by a flash or memory-efficient kernel keeps its inputs and output, which grow with the
    tokens. The math kernel (float32 on CUDA, or a mask that the others refuse) and eager attention
    keep every score, which grow with their square; three lengths tell these apart.
    """
    window = context_window(model.get_base_model().config)
    long = max(4, min(_LONGEST_PROBE, window or _LONGEST_PROBE))
    lengths = (long // 4, long // 2, long)
    kept = [kept_bytes(loaded, model, PassSize.one_row(tokens)) for tokens in lengths]
    fewer = kept_bytes(loaded, model, PassSize.one_row(long, long // 2))
    return fit_growth(lengths, kept, fewer)


def fit_growth(lengths: Sequence[int], kept: Sequence[int], fewer: int) -> Growth:
    """The parabola through what single rows of three ``lengths`` kept, with all logits.

    ``fewer`` is what the longest kept with logits at half of its tokens. A curve that bends
    downwards comes from something else than attention, such as experts that a short pass leaves
    idle: then the line through the two longer passes is taken.
    """
    (a, b, c), (first, second, third) = lengths, kept
    late, early = (third - second) / (c - b), (second - first) / (b - a)
    score = max(0.0, (late - early) / (c - a))
    each = late - score * (b + c)
    logits = max(0.0, (third - fewer) / (c - 1 - c // 2))
    constant = third - each * c - score * c**2 + logits  # a row of n tokens has n - 1 predicted
    return Growth(constant, each - logits, logits, score)


def kept_bytes(loaded: LoadedModel, model: PeftModel, size: PassSize) -> int:
    """Bytes that autograd keeps of a pass over one row, without the model's weights."""
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    weights = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    # The storages are held until they are counted, so that none takes the address of another.
    kept: dict[int, torch.UntypedStorage] = {}

    def record(tensor: torch.Tensor) -> None:
        """Note the tensor and give autograd nothing: a tensor would hold its own graph, for ever.

        No backward pass follows that could miss it.
        """
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage

    vocabulary = model.get_base_model().config.get_text_config().vocab_size
    ids = tuple(at % vocabulary for at in range(size.tokens))
    trained = tuple(at >= size.tokens - size.supervised for at in range(size.tokens))
    was_training = model.training
    with (
        torch.random.fork_rng(devices=_generators(loaded.device)),
        torch.autograd.graph.saved_tensors_hooks(record, _not_run_backward),
    ):
        begin_training(model)
        try:
            losses = plain_losses(loaded, [Example("", "", Encoded(ids, trained))])[0].sum()
        finally:
            model.train(was_training)
    del losses
    return sum(storage.nbytes() for storage in kept.values())


def _generators(device: str) -> list[int]:
    """The CUDA device whose random state a probe may change; torch would take those of all."""
    import torch

    return [torch.cuda.current_device()] if device.startswith("cuda") else []


def _not_run_backward(_: object) -> torch.Tensor:
    raise AssertionError("a probe has no backward pass")
