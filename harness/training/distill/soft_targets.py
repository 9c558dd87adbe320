"""Targets of distillation: the teacher's distribution at each trained token of a student's row.

Also the divergences between two distributions over the vocabulary, in nats a token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records import Encoded
from harness.training.distill.alignment import (
    LEFT_OUT,
    AlignedAnswer,
    AnswerToken,
    logit_rows,
    opening_table,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from harness.training.distill.teacher import TeacherDistribution


@dataclass(frozen=True, slots=True)
class Targets:
    """A target distribution for each trained token of a row."""

    ids: torch.Tensor
    """[tokens, k]."""
    probabilities: torch.Tensor
    """Of ``ids``, [tokens, k]."""
    used: torch.Tensor
    """[tokens, k], false in columns that hold nothing."""
    rest: torch.Tensor
    """The probability of all other tokens together, [tokens]."""
    soft: torch.Tensor
    """[tokens], true where the target is the teacher's distribution.

    The others are hard, as in supervised training: whitespace before the words, the stop after its
    first token, and tokens that begin where no token of the teacher does.
    """


def hard_targets(encoded: Encoded, columns: int = 1) -> Targets:
    """Each trained token with probability 1."""
    import torch

    pairs = zip(encoded.ids[1:], encoded.trained[1:], strict=True)
    labels = torch.tensor([token for token, trained in pairs if trained])
    ids = labels.unsqueeze(1).repeat(1, columns)
    probabilities = torch.zeros(ids.shape)
    probabilities[:, 0] = 1.0
    used = torch.zeros(ids.shape, dtype=torch.bool)
    used[:, 0] = True
    nothing = torch.zeros(len(labels))
    return Targets(ids, probabilities, used, nothing, nothing.bool())


def soft_targets(
    encoded: Encoded,
    native: Encoded,
    answers: list[AlignedAnswer],
    teacher: TeacherDistribution,
    tokenizer: PreTrainedTokenizerBase,
    size: int,
) -> Targets:
    """Translate the teacher's distribution along ``native`` to the tokens of ``encoded``.

    ``size`` is the width of the logits. Three things are rewritten (docs/distillation.md). Leading
    whitespace: a first word is spelt after the student's. Stop: the probability of the native stop
    goes to the first token of the student's, at every token if the native stop is a control token,
    otherwise at the end alone. Spelling: where the student's next token differs from the teacher's,
    it gets the probability of the text that it writes, token by token.
    """
    import torch

    native_rows = logit_rows(native)
    targets = hard_targets(encoded, teacher.ids.shape[1] + 1)
    for answer in answers:
        rows, sources = answer.rows(answer.pairs, encoded, native)
        ids = teacher.ids[sources].long().cpu()
        probabilities = teacher.probabilities[sources].cpu().clone()
        rest = teacher.rest[sources].cpu().clone()
        labels = [
            teacher.label_probability[native_rows[token.at]].item()
            for token in answer.native.tokens
        ]
        _rewrite_leading(answer, ids, probabilities, rest, tokenizer, size)
        _rewrite_stop(answer, ids)
        ids, probabilities, _ = merged(ids, probabilities)
        spare = torch.full((len(rows), 1), LEFT_OUT)
        ids = torch.cat([ids, spare], 1)
        probabilities = torch.cat([probabilities, torch.zeros(len(rows), 1)], 1)
        _rewrite_spelling(answer, ids, probabilities, labels, tokenizer, size)
        ids, probabilities, used = merged(ids, probabilities)
        targets.ids[rows], targets.probabilities[rows] = ids, probabilities
        targets.used[rows], targets.rest[rows], targets.soft[rows] = used, rest, True
    return targets


def _rewrite_leading(
    answer: AlignedAnswer,
    ids: torch.Tensor,
    probabilities: torch.Tensor,
    rest: torch.Tensor,
    tokenizer: PreTrainedTokenizerBase,
    size: int,
) -> None:
    for row, pair in enumerate(answer.pairs):
        native, student = answer.leading(pair)
        if pair.place == "opening" and native != student:
            ids[row] = opening_table(tokenizer, size, native, student)[ids[row]]
            if native:  # what does not begin with it cannot begin the answer
                probabilities[row, ids[row] == LEFT_OUT] = 0.0
                probabilities[row] /= probabilities[row].sum().clamp(min=1e-9)
                rest[row] = 0.0


def _rewrite_stop(answer: AlignedAnswer, ids: torch.Tensor) -> None:
    if answer.stop_ids is None:
        return
    student, native = answer.stop_ids
    for row, pair in enumerate(answer.pairs):
        if answer.may_stop(pair):
            ids[row][ids[row] == native] = student


def _rewrite_spelling(
    answer: AlignedAnswer,
    ids: torch.Tensor,
    probabilities: torch.Tensor,
    labels: list[float],
    tokenizer: PreTrainedTokenizerBase,
    size: int,
) -> None:
    for row, pair in enumerate(answer.pairs):
        token = answer.student.tokens[pair.first]
        expected = answer.expected_id(pair, tokenizer, size)
        columns = (ids[row] == expected).nonzero().flatten().tolist()
        if token.id != expected and columns:
            column = columns[0]
            spelt = _probability_of_text(answer, pair.second, token, labels)
            moved = min(spelt, float(probabilities[row, column]))
            probabilities[row, column] -= moved
            ids[row, -1], probabilities[row, -1] = token.id, moved


def _probability_of_text(
    answer: AlignedAnswer, at: int, token: AnswerToken, labels: list[float]
) -> float:
    """The teacher's probability of the text of ``token``: the product over its own tokens."""
    probability = 1.0
    for place in range(at, len(answer.native.tokens)):
        probability *= labels[place]
        if answer.native.tokens[place].end >= token.end:
            break
        if place > at and answer.native.tokens[place].start >= len(answer.native.words):
            break  # one token of the stop is enough: the format dictates the others
    return probability


def merged(
    ids: torch.Tensor, probabilities: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Add up equal ids of a row, and drop id −1. Returns ids, probabilities and used columns."""
    import torch

    ids, order = ids.sort(1)
    probabilities = probabilities.gather(1, order)
    first = torch.ones_like(ids, dtype=torch.bool)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    group = first.long().cumsum(1) - 1
    summed = torch.zeros_like(probabilities).scatter_add(1, group, probabilities)
    unique = torch.zeros_like(ids).scatter(1, group, ids)
    used = (torch.arange(ids.shape[1]) <= group[:, -1:]) & (unique != LEFT_OUT)
    return (
        torch.where(used, unique, unique.max(1, keepdim=True).values),
        torch.where(used, summed, 0.0),
        used,
    )


def kullback_leibler(
    logits: torch.Tensor, targets: Targets, temperature: float = 1.0
) -> torch.Tensor:
    """KL(target ‖ softmax(logits / temperature)) at each token, [tokens].

    ``logits`` is [tokens, vocabulary]. All tokens that a target does not name count as one outcome.
    So this is a lower bound of the divergence of the whole distributions (data processing
    inequality), and equal to it when the target names all. For a hard target it is the
    cross-entropy. float32 throughout, whatever the logits' dtype.
    """
    import torch

    logprobs = torch.log_softmax(logits.float() / temperature, -1)
    named = logprobs.gather(1, targets.ids)
    wanted = targets.probabilities
    divergence = torch.where(targets.used, torch.xlogy(wanted, wanted) - wanted * named, 0.0).sum(1)
    if not bool((targets.rest > 0).any()):
        return divergence
    others = logprobs.scatter(1, targets.ids, -torch.inf).logsumexp(1)
    return divergence + torch.where(
        targets.rest > 0, torch.xlogy(targets.rest, targets.rest) - targets.rest * others, 0.0
    )


def entropy(targets: Targets) -> torch.Tensor:
    """−Σ p log p at each token, with all tokens that are not named as one outcome, [tokens]."""
    import torch

    wanted, rest = targets.probabilities, targets.rest
    return -torch.xlogy(wanted, wanted).sum(1) - torch.xlogy(rest, rest)


def jensen_shannon(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """JS of finite log-probabilities [tokens, vocabulary], at each token: between 0 and log 2.

    Lin 1991, IEEE Trans. Inf. Theory 37.
    """
    import torch

    middle = torch.logaddexp(first, second) - math.log(2)
    return ((first.exp() * (first - middle)).sum(1) + (second.exp() * (second - middle)).sum(1)) / 2
