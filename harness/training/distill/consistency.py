"""Consistency: learn the answers, and predict the same in the training and the native format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.training.config import ObjectiveConfig
from harness.training.distill.alignment import (
    LEFT_OUT,
    AlignedAnswer,
    TokenPair,
    opening_table,
)
from harness.training.distill.native_rows import NativeRows
from harness.training.distill.soft_targets import jensen_shannon
from harness.training.step.loss import Tally, summed, supervised_logits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from harness.models import LoadedModel
    from harness.training.data.examples import Example

#: Replaces a probability of 0, so that every logarithm and its gradient is finite.
_LEAST = 1e-30


class Consistency:
    """Cross-entropy in the training format, plus ``consistency_weight`` · JS(native ‖ training).

    The divergence is summed over aligned tokens. Both sides are the model in training. The native
    side has no gradient: the other format moves towards it, not it towards a format that the model
    does not know yet. JS is bounded, so an early token that one side knows nothing of cannot
    dominate (R-Drop, arXiv 2106.14448, uses the symmetric KL, which is not bounded).
    """

    def __init__(self, rows: NativeRows, config: ObjectiveConfig) -> None:
        self.rows = rows
        self.weight = config.consistency_weight
        self.native = {
            conversation: rows.encoded(conversation) for conversation in rows.conversations
        }

    def __call__(
        self, loaded: LoadedModel, batch: Sequence[Example], tally: Tally | None = None
    ) -> torch.Tensor:
        return summed(batch, *self.token_losses(loaded, batch), tally)

    def token_losses(
        self, loaded: LoadedModel, batch: Sequence[Example]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The float32 loss of each supervised token, in order, and whether it was the likeliest."""
        import torch

        logits, labels = supervised_logits(loaded, [example.encoded for example in batch])
        logprobs = torch.log_softmax(logits.float(), -1)
        cross_entropy = torch.nn.functional.nll_loss(logprobs, labels, reduction="none")
        native = self._native_logprobs(loaded, [example.conversation for example in batch])
        parts = torch.split(logprobs, [example.supervised for example in batch])
        divergences = [
            self._divergence(example, part, native.get(example.conversation))
            for example, part in zip(batch, parts, strict=True)
        ]
        losses = cross_entropy + self.weight * torch.cat(divergences)
        return losses, logits.detach().argmax(-1) == labels

    def _native_logprobs(
        self, loaded: LoadedModel, conversations: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Log-probabilities along native rows, each [its supervised tokens, vocabulary]."""
        import torch

        ids = [each for each in dict.fromkeys(conversations) if each in self.native]
        if not ids:
            return {}
        rows = [self.native[each] for each in ids]
        with torch.no_grad():
            logits, _ = supervised_logits(loaded, rows)
            logprobs = torch.log_softmax(logits.float(), -1)
        sizes = [sum(row.trained[1:]) for row in rows]
        return dict(zip(ids, torch.split(logprobs, sizes), strict=True))

    def _divergence(
        self, example: Example, logprobs: torch.Tensor, native: torch.Tensor | None
    ) -> torch.Tensor:
        """JS at each supervised token of one example.

        0 where the native row has no counterpart, or writes it in other tokens.
        """
        import torch

        divergence = logprobs.new_zeros(len(logprobs))
        if native is None:
            return divergence
        tokenizer, size = self.rows.tokenizer, logprobs.shape[-1]
        for answer in self.rows.aligned(example):
            pairs = [
                pair
                for pair in answer.pairs
                if answer.expected_id(pair, tokenizer, size) == answer.student.tokens[pair.first].id
            ]
            if pairs:
                native_row = self.native[example.conversation]
                rows, native_rows = answer.rows(pairs, example.encoded, native_row)
                translated = translate_logprobs(native[native_rows], answer, pairs, tokenizer)
                index = torch.tensor(rows, device=logprobs.device)
                divergence = divergence.index_add(
                    0, index, jensen_shannon(translated, logprobs[rows])
                )
        return divergence


def translate_logprobs(
    logprobs: torch.Tensor,
    answer: AlignedAnswer,
    pairs: Sequence[TokenPair],
    tokenizer: PreTrainedTokenizerBase,
) -> torch.Tensor:
    """Native log-probabilities [pairs, vocabulary] with the student's whitespace and stop."""
    import torch

    return torch.stack(
        [
            _with_stop(_with_leading(row, answer, pair, tokenizer), answer, pair)
            for pair, row in zip(pairs, logprobs, strict=True)
        ]
    )


def _with_leading(
    row: torch.Tensor, answer: AlignedAnswer, pair: TokenPair, tokenizer: PreTrainedTokenizerBase
) -> torch.Tensor:
    native, student = answer.leading(pair)
    if pair.place != "opening" or native == student:
        return row
    import torch

    table = opening_table(tokenizer, len(row), native, student)
    known = table != LEFT_OUT
    # On the CPU: many tokens become one, and a GPU would add them in another order each time.
    weights = row.exp().cpu()[known].double().numpy()
    sums = np.bincount(table[known].numpy(), weights, minlength=len(row))
    return torch.from_numpy(sums / sums.sum()).to(row).clamp(min=_LEAST).log()


def _with_stop(row: torch.Tensor, answer: AlignedAnswer, pair: TokenPair) -> torch.Tensor:
    if answer.stop_ids is None or not answer.may_stop(pair):
        return row
    student, native = answer.stop_ids
    if student == native:
        return row
    import torch

    moved = row.clone()
    moved[student] = torch.logaddexp(row[student], row[native])
    moved[native] = math.log(_LEAST)
    return moved
