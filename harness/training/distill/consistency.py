"""Consistency: besides learning the answers, believe the same at their tokens in the drawn and in the native format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.records import Encoded
from harness.training.config import ObjectiveConfig
from harness.training.distill.alignment import LEFT_OUT, AlignedAnswer, NativeRows, TokenPair, translation
from harness.training.distill.soft_targets import jensen_shannon
from harness.training.step.loss import Tally, summed, supervised_logits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from harness.models import LoadedModel
    from harness.training.data.examples import Example

#: A probability that stands for none, so that every logarithm and its gradient is finite.
_LEAST = 1e-30


class Consistency:
    """Cross-entropy in the drawn format, plus ``consistency_weight`` · JS(native ‖ drawn) summed over aligned tokens.

    Both sides are the model in training. By default the native side is held (no gradient): the drawn format is to come to it, and
    it is not to go to a format that the model does not understand yet. The symmetric divergence is bounded, so an
    early token of which one side knows nothing cannot drown the rest (the consistency term of R-Drop, Wu 2021,
    arXiv 2106.14448, is the symmetric KL, which is not).
    """

    def __init__(self, rows: NativeRows, config: ObjectiveConfig) -> None:
        self.rows = rows
        self.config = config
        self.native = {id: rows.encoded(id) for id in rows.conversations}

    def __call__(
        self, loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None
    ) -> torch.Tensor:
        return summed(batch, *self.token_losses(loaded, batch), tally)

    def token_losses(
        self, loaded: LoadedModel, batch: Sequence[Example]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of each supervised token of a batch in its order, float32, and whether the model would have chosen it."""
        import torch

        logits, said = supervised_logits(loaded, [example.encoded for example in batch])
        ours = torch.log_softmax(logits.float(), -1)
        learnt = torch.nn.functional.nll_loss(ours, said, reduction="none")
        theirs = self._natively(
            loaded,
            [example.conversation for example in batch if example.conversation in self.native],
        )
        parts = zip(
            batch, torch.split(ours, [_size(example.encoded) for example in batch]), strict=True
        )
        apart = [
            self._apart(example, own, theirs.get(example.conversation)) for example, own in parts
        ]
        return learnt + self.config.consistency_weight * torch.cat(apart), logits.detach().argmax(
            -1
        ) == said

    def _natively(self, loaded: LoadedModel, ids: Sequence[str]) -> dict[str, torch.Tensor]:
        """Log-probabilities along the native rows of these conversations, each [its supervised tokens, vocabulary]."""
        import torch

        rows = [self.native[id] for id in dict.fromkeys(ids)]
        if not rows:
            return {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.hold_native):
            logits, _ = supervised_logits(loaded, rows)
            parts = torch.split(torch.log_softmax(logits.float(), -1), [_size(row) for row in rows])
        return dict(zip(dict.fromkeys(ids), parts, strict=True))

    def _apart(
        self, example: Example, own: torch.Tensor, other: torch.Tensor | None
    ) -> torch.Tensor:
        """JS at each supervised token of one example, 0 where the native row has no counterpart or says it in other tokens."""
        import torch

        apart = own.new_zeros(len(own))
        for aligned in self.rows.aligned(example) if other is not None else ():
            said = [
                aligned.written(pair, self.rows.tokenizer, own.shape[-1]) for pair in aligned.pairs
            ]
            pairs = [
                pair
                for pair, id in zip(aligned.pairs, said, strict=True)
                if id == aligned.drawn.tokens[pair.first].id
            ]
            if pairs and other is not None:
                rows, sources = aligned.rows(
                    pairs, example.encoded, self.native[example.conversation]
                )
                carried = carry(other[sources], aligned, pairs, self.rows.tokenizer)
                apart = apart.index_add(
                    0, torch.tensor(rows, device=own.device), jensen_shannon(carried, own[rows])
                )
        return apart


def carry(
    logprobs: torch.Tensor,
    aligned: AlignedAnswer,
    pairs: Sequence[TokenPair],
    tokenizer: PreTrainedTokenizerBase,
) -> torch.Tensor:
    """Native log-probabilities [pairs, vocabulary] in the drawn format's lead and stop, with their gradient."""
    import torch

    return torch.stack(
        [
            _with_stop(_with_lead(row, aligned, pair, tokenizer), aligned, pair)
            for pair, row in zip(pairs, logprobs, strict=True)
        ]
    )


def _with_lead(
    row: torch.Tensor, aligned: AlignedAnswer, pair: TokenPair, tokenizer: PreTrainedTokenizerBase
) -> torch.Tensor:
    leads = aligned.leads(pair)
    if pair.place != "opening" or leads[0] == leads[1]:
        return row
    import torch

    table = translation(tokenizer, len(row), *leads).to(row.device)
    kept = table != LEFT_OUT
    moved = torch.zeros_like(row).index_add(0, table[kept], row[kept].exp())
    return (moved / moved.sum()).clamp(min=_LEAST).log()


def _with_stop(row: torch.Tensor, aligned: AlignedAnswer, pair: TokenPair) -> torch.Tensor:
    if (
        aligned.stop_ids is None
        or aligned.stop_ids[0] == aligned.stop_ids[1]
        or not aligned.ends_at(pair)
    ):
        return row
    import torch

    drawn, native = aligned.stop_ids
    ends = torch.logaddexp(row[drawn], row[native])
    return row.index_put(
        (torch.tensor([drawn, native], device=row.device),),
        torch.stack([ends, torch.full_like(ends, math.log(_LEAST))]),
    )


def _size(encoded: Encoded) -> int:
    return sum(encoded.trained[1:])
