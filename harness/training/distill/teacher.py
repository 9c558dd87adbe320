"""The teacher's distribution at every token of an answer in its native format.

It is computed once and kept small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.local.batches import by_length
from harness.models.adapters import base_only
from harness.training.step.loss import supervised_logits

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.records import Encoded

#: Padded tokens of a forward pass. It affects the last bits of the result, so it is not a setting.
_BUDGET = 4096
#: Tokens whose distributions are in memory at once, several times in float32. The result does not
#: depend on it.
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class TeacherDistribution:
    """The teacher's distribution before each trained token of a row.

    The ``k`` likeliest tokens are kept, and all others as one: 8 bytes for each of ``k``, so that
    64 need 0.5 kB a token, where the logits of a vocabulary of 49 152 need 192 kB in float32.
    """

    ids: torch.Tensor
    """int32 [tokens, k]."""
    probabilities: torch.Tensor
    """Of ``ids``, float32 [tokens, k]."""
    rest: torch.Tensor
    """The probability of all other tokens together, [tokens]."""
    label_probability: torch.Tensor
    """The probability of the row's own next token, [tokens]."""


#: Native rows, by conversation → the distribution of the teacher of each.
Teacher = Callable[[Mapping[str, "Encoded"]], Mapping[str, TeacherDistribution]]


def base_teacher(loaded: LoadedModel, top_k: int, temperature: float) -> Teacher:
    """The base model, without its adapter, as the teacher of all rows."""

    def teach(rows: Mapping[str, Encoded]) -> Mapping[str, TeacherDistribution]:
        made = teacher_distributions(loaded, list(rows.values()), top_k, temperature)
        return dict(zip(rows, made, strict=True))

    return teach


def teacher_distributions(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    top_k: int,
    temperature: float,
    *,
    adapted: bool = False,
) -> list[TeacherDistribution]:
    """Run the base model over rows, without its adapter unless ``adapted``.

    ``top_k`` 0 keeps the whole vocabulary. The rows are batched by length alone, so that the same
    rows give the same bits after a resume.
    """
    distributions: dict[int, TeacherDistribution] = {}
    with nullcontext() if adapted else base_only(loaded):
        for batch in by_length(range(len(rows)), lambda row: len(rows[row].ids), _BUDGET, 64):
            made = _batch(loaded, [rows[row] for row in batch], top_k, temperature)
            distributions.update(zip(batch, made, strict=True))
    return [distributions[row] for row in range(len(rows))]


def _batch(
    loaded: LoadedModel, rows: Sequence[Encoded], top_k: int, temperature: float
) -> list[TeacherDistribution]:
    import torch

    with torch.no_grad():
        logits, labels = supervised_logits(loaded, rows)
    pieces = zip(torch.split(logits, _AT_ONCE), torch.split(labels, _AT_ONCE), strict=True)
    kept = (_kept(piece, wanted, top_k, temperature) for piece, wanted in pieces)
    columns = [torch.cat(parts) for parts in zip(*kept, strict=True)]
    sizes = [sum(row.trained[1:]) for row in rows]
    parts = zip(*(torch.split(column, sizes) for column in columns), strict=True)
    return [TeacherDistribution(*part) for part in parts]


def _kept(
    logits: torch.Tensor, labels: torch.Tensor, top_k: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The fields of a TeacherDistribution, from logits [tokens, vocabulary] and labels [tokens]."""
    import torch

    logprobs = torch.log_softmax(logits.float() / temperature, -1)
    label_probability = logprobs.gather(1, labels.unsqueeze(1)).squeeze(1).exp()
    top, ids = logprobs.topk(min(top_k or logprobs.shape[1], logprobs.shape[1]), -1)
    rest = logprobs.scatter(1, ids, -torch.inf).logsumexp(-1).exp()
    return ids.int(), top.exp(), rest, label_probability
