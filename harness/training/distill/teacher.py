"""What the base model believes at every token of an answer in its own format: computed once, kept small."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.backends.local.batches import by_length
from harness.training.step.loss import supervised_logits

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.records import Encoded

#: Padded tokens of a teacher's forward pass. It decides the last bits of what is kept, so it is no setting.
_BUDGET = 4096


@dataclass(frozen=True, slots=True)
class TeacherDistribution:
    """The teacher's distribution before each trained token of a row: the ``k`` likeliest tokens, and all others as one.

    ``ids`` (int32) and ``probabilities`` (float32) are [tokens, k], ``rest`` [tokens] is what the others have together, and ``own``
    [tokens] is what the row's own next token has. 8 bytes for each of ``k``, so that 64 need 0.5 kB a token where
    the logits of a vocabulary of 49 152 need 192 kB in float32.
    """

    ids: torch.Tensor
    probabilities: torch.Tensor
    rest: torch.Tensor
    own: torch.Tensor


def teacher_distributions(
    loaded: LoadedModel, rows: Sequence[Encoded], top_k: int, temperature: float
) -> list[TeacherDistribution]:
    """Run the base model over rows in its own format, an adapter on it switched off. ``top_k`` 0 keeps the whole vocabulary.

    The rows are batched by their length alone, so that the same rows give the same bits in an interrupted run.
    """
    found: dict[int, TeacherDistribution] = {}
    for batch in by_length(range(len(rows)), lambda row: len(rows[row].ids), _BUDGET, 64):
        found.update(
            zip(
                batch, _batch(loaded, [rows[row] for row in batch], top_k, temperature), strict=True
            )
        )
    return [found[row] for row in range(len(rows))]


@contextlib.contextmanager
def base_only(loaded: LoadedModel) -> Any:
    """The model as it was before any adapter: no second copy in memory."""
    disable = getattr(loaded.model, "disable_adapter", None)
    training = loaded.model.training
    loaded.model.eval()
    with (
        disable() if disable and hasattr(loaded.model, "peft_config") else contextlib.nullcontext()
    ):
        yield
    loaded.model.train(training)


def _batch(
    loaded: LoadedModel, rows: Sequence[Encoded], top_k: int, temperature: float
) -> list[TeacherDistribution]:
    import torch

    with base_only(loaded), torch.no_grad():
        logits, said = supervised_logits(loaded, rows)
    logprobs = torch.log_softmax(logits.float() / temperature, -1)
    own = logprobs.gather(1, said.unsqueeze(1)).squeeze(1).exp()
    top, kept = logprobs.topk(min(top_k or logprobs.shape[1], logprobs.shape[1]), -1)
    others = logprobs.scatter(1, kept, -torch.inf).logsumexp(-1).exp()
    sizes = [sum(row.trained[1:]) for row in rows]
    columns = (torch.split(column, sizes) for column in (kept.int(), top.exp(), others, own))
    return [TeacherDistribution(*row) for row in zip(*columns, strict=True)]
