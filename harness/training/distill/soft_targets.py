"""What the student should believe at each of its trained tokens: the teacher's beliefs in the student's format.

How far two distributions over the vocabulary lie apart, in nats a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.records import Encoded
from harness.training.distill.alignment import LEFT_OUT, AnswerToken, AlignedAnswer, places, translation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from harness.training.distill.teacher import TeacherDistribution


@dataclass(frozen=True, slots=True)
class Targets:
    """A distribution for each trained token of a row: ``probabilities`` of ``ids``, both [tokens, k], and of all others together, ``rest`` [tokens].

    Columns where ``used`` is false hold nothing. ``soft`` marks the tokens that have the teacher's beliefs; the
    others are certain, as in supervised training: what stands before the words, the stop after its first
    token, and tokens that begin where no token of the teacher does.
    """

    ids: torch.Tensor
    probabilities: torch.Tensor
    used: torch.Tensor
    rest: torch.Tensor
    soft: torch.Tensor


def certain(encoded: Encoded, columns: int = 1) -> Targets:
    """Each trained token with probability 1."""
    import torch

    own = torch.tensor(
        [id for id, trained in zip(encoded.ids[1:], encoded.trained[1:], strict=True) if trained]
    )
    ids = own.unsqueeze(1).repeat(1, columns)
    probabilities = torch.zeros(ids.shape)
    probabilities[:, 0] = 1.0
    used = torch.zeros(ids.shape, dtype=torch.bool)
    used[:, 0] = True
    return Targets(
        ids, probabilities, used, torch.zeros(len(own)), torch.zeros(len(own), dtype=torch.bool)
    )


def make_targets(
    encoded: Encoded,
    native: Encoded,
    answers: list[AlignedAnswer],
    teacher_distributions: TeacherDistribution,
    tokenizer: PreTrainedTokenizerBase,
    size: int,
) -> Targets:
    """Carry the beliefs along ``native`` over to the tokens of ``encoded``. ``size`` is the width of the logits.

    Three things are rewritten (docs/distillation.md). The lead: a first word is spelt with the student's
    white space. The stop: what the teacher gives to ending its answer goes to the first token of the student's stop, at every
    token where the teacher's is a control token, else at the end alone. The spelling: where the student's next token is another than the teacher's, it
    gets what the teacher gives to the text that it writes, token by token.
    """
    import torch

    sources = places(native)
    made = certain(encoded, teacher_distributions.ids.shape[1] + 1)
    for aligned in answers:
        at, source = aligned.rows(aligned.pairs, encoded, native)
        ids = teacher_distributions.ids[source].long().cpu()
        probabilities = teacher_distributions.probabilities[source].cpu().clone()
        rest = teacher_distributions.rest[source].cpu().clone()
        own = [teacher_distributions.own[sources[token.at]].item() for token in aligned.native.tokens]
        _write_lead(aligned, ids, probabilities, rest, tokenizer, size)
        _write_stop(aligned, ids)
        ids, probabilities, _ = merged(ids, probabilities)
        spare = torch.full((len(at), 1), LEFT_OUT)
        ids, probabilities = (
            torch.cat([ids, spare], 1),
            torch.cat([probabilities, torch.zeros(len(at), 1)], 1),
        )
        _write_spelling(aligned, ids, probabilities, own, tokenizer, size)
        ids, probabilities, used = merged(ids, probabilities)
        made.ids[at], made.probabilities[at], made.used[at] = ids, probabilities, used
        made.rest[at], made.soft[at] = rest, True
    return made


def _write_lead(
    aligned: AlignedAnswer,
    ids: torch.Tensor,
    probabilities: torch.Tensor,
    rest: torch.Tensor,
    tokenizer: Any,
    size: int,
) -> None:
    for row, pair in enumerate(aligned.pairs):
        if pair.place == "opening" and (leads := aligned.leads(pair))[0] != leads[1]:
            ids[row] = translation(tokenizer, size, *leads)[ids[row]]
            if leads[
                0
            ]:  # a teacher that is known to begin with its lead: the rest of its beliefs is no beginning
                probabilities[row, ids[row] == LEFT_OUT] = 0.0
                probabilities[row] /= probabilities[row].sum().clamp(min=1e-9)
                rest[row] = 0.0


def _write_stop(aligned: AlignedAnswer, ids: torch.Tensor) -> None:
    if aligned.stop_ids is None:
        return
    drawn, native = aligned.stop_ids
    for row, pair in enumerate(aligned.pairs):
        if aligned.ends_at(pair):
            ids[row][ids[row] == native] = drawn


def _write_spelling(
    aligned: AlignedAnswer,
    ids: torch.Tensor,
    probabilities: torch.Tensor,
    own: list[float],
    tokenizer: Any,
    size: int,
) -> None:
    for row, pair in enumerate(aligned.pairs):
        token = aligned.drawn.tokens[pair.first]
        expected = aligned.written(pair, tokenizer, size)
        column = (ids[row] == expected).nonzero().flatten().tolist()
        if token.id != expected and column:
            moved = min(
                _spelt(aligned, pair.second, token, own), float(probabilities[row, column[0]])
            )
            probabilities[row, column[0]] -= moved
            ids[row, -1], probabilities[row, -1] = token.id, moved


def _spelt(aligned: AlignedAnswer, at: int, token: AnswerToken, own: list[float]) -> float:
    """What the teacher gives to writing the text of ``token``: the product over its tokens until they cover it."""
    probability = 1.0
    for place in range(at, len(aligned.native.tokens)):
        probability *= own[place]
        if aligned.native.tokens[place].end >= token.end:
            break
        if place > at and aligned.native.tokens[place].start >= len(aligned.native.words):
            break  # one token of the stop is enough: the rest of it is the format's
    return probability


def merged(
    ids: torch.Tensor, probabilities: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Add up what stands twice in a row, and drop id −1. Returns ids, probabilities and which columns are used."""
    import torch

    ids, order = ids.sort(1)
    probabilities = probabilities.gather(1, order)
    first = torch.ones_like(ids, dtype=torch.bool)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    group = first.long().cumsum(1) - 1
    summed = torch.zeros_like(probabilities).scatter_add(1, group, probabilities)
    kept = torch.zeros_like(ids).scatter(1, group, ids)
    used = (torch.arange(ids.shape[1]) <= group[:, -1:]) & (kept != LEFT_OUT)
    return (
        torch.where(used, kept, kept.max(1, keepdim=True).values),
        torch.where(used, summed, 0.0),
        used,
    )


def kullback_leibler(
    logits: torch.Tensor, targets: Targets, temperature: float = 1.0
) -> torch.Tensor:
    """KL(target ‖ softmax(logits / temperature)) at each token, [tokens]; ``logits`` is [tokens, vocabulary].

    All tokens that a target does not name count as one outcome, so this is a lower bound of the divergence of the whole
    distributions (data processing), and equal to it when the target names all. For a certain target it is the
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


def jensen_shannon(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """JS of log-probabilities [tokens, vocabulary], all finite, at each token: between 0 and log 2 (Lin 1991, IEEE Trans. Inf. Theory 37)."""
    import math

    import torch

    middle = torch.logaddexp(first, second) - math.log(2)
    return ((first.exp() * (first - middle)).sum(1) + (second.exp() * (second - middle)).sum(1)) / 2
