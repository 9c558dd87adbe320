"""A fine-tuned model beside its base: answers of each, and of their difference amplified.

Amplified, the next token is chosen by log p + α (log p − log q), where p is the fine-tuned model's
distribution and q the base's. What was taught then comes out more often than the model itself says
it (Aranguri and McGrath, "Discovering Undesired Rare Behaviors via Model Diff Amplification", 2025;
contrastive decoding, Li et al., arXiv 2210.15097).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.local.backend import decode
from harness.backends.local.decoding import Decoder, DecodingRow, Engine
from harness.backends.local.forward import Forward, ModuleForward, forward_of
from harness.backends.local.room import Room, room_for
from harness.backends.local.slots import Slots
from harness.backends.protocol import Answer, GenerateRequest
from harness.models.adapters import base_only

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel

#: A token counts only if the fine-tuned model gives it this part of its likeliest token's
#: probability, so that no nonsense is amplified (the plausibility constraint of Li et al.).
PLAUSIBLE = 1e-4
#: The score of a token that does not count.
_NEVER = -1e9


@dataclass(frozen=True, slots=True)
class AmplifiedAnswer:
    """An amplified answer, its token ids, and log p − log q of each token, in nats."""

    text: str
    token_ids: tuple[int, ...]
    gains: tuple[float, ...]


@dataclass
class Pair:
    """A fine-tuned model, and the base that it was trained from.

    ``merged_from`` is a model of its own; without one, the base is ``tuned`` with its adapter off.
    """

    tuned: LoadedModel
    merged_from: LoadedModel | None = None

    @contextmanager
    def base(self) -> Iterator[LoadedModel]:
        """The base. Inside the block the adapter, if there is one, is off."""
        if self.merged_from is not None:
            yield self.merged_from
            return
        with base_only(self.tuned):
            yield self.tuned

    def answers(self, requests: Sequence[GenerateRequest]) -> list[Answer | None]:
        """The fine-tuned model's greedy answers; None for those that are not usable."""
        return _decoded(Decoder(self.tuned, room_for(self.tuned)), requests)

    def amplified(
        self, requests: Sequence[GenerateRequest], strength: float
    ) -> list[AmplifiedAnswer | None]:
        """Greedy answers with α = ``strength``; None for those that are not usable."""
        decoder = _Amplifying(self, room_for(self.tuned), strength)
        found = _decoded(decoder, requests)
        return [
            decoder.with_gains(request.key, answer) if answer else None
            for request, answer in zip(requests, found, strict=True)
        ]


def _decoded(decoder: Decoder, requests: Sequence[GenerateRequest]) -> list[Answer | None]:
    found = {key: answer for batch in decode(decoder, requests) for key, answer in batch}
    every = [found.get(request.key) for request in requests]
    return [answer if isinstance(answer, Answer) else None for answer in every]


class _Amplifying(Decoder):
    """Decodes with both models at once, and keeps the gain of each token."""

    rows: AmplifiedRows

    def __init__(self, pair: Pair, room: Room, strength: float) -> None:
        super().__init__(pair.tuned, room)
        self.pair = pair
        self.strength = strength
        self.gains: dict[str, list[float]] = {}

    def with_gains(self, key: str, answer: Answer) -> AmplifiedAnswer:
        """The answer with the gains of its tokens."""
        gains = self.gains.get(key, [])[: len(answer.token_ids)]
        return AmplifiedAnswer(answer.text, answer.token_ids, tuple(gains))

    def _engine(self, name: str, slots: int, width: int, forward: Forward | None) -> Engine:
        tuned = super()._engine(name, slots, width, forward)
        with self.pair.base() as base:
            passes = forward_of(base, width) if forward else None
            below = Decoder(base, self.room)._engine(name, slots, width, passes)
        switch = nullcontext if _holds_weights(below) else self.pair.base
        self.rows = AmplifiedRows(tuned, below, self.strength, switch)
        return self.rows

    def _extend(self, rows: list[DecodingRow], logits: torch.Tensor) -> None:
        before = [len(row.tokens) for row in rows]
        super()._extend(rows, logits)
        for at, (row, count) in enumerate(zip(rows, before, strict=True)):
            if len(row.tokens) > count:
                gains = self.gains.setdefault(row.key, [])
                del gains[count:]  # of a row that began again
                gains.append(float(self.rows.gain[at, row.tokens[count]]))


def _holds_weights(engine: Engine) -> bool:
    """Whether it computes with weights that it took when it was made, with the adapter off."""
    return isinstance(engine, Slots) and not isinstance(engine.forward, ModuleForward)


class AmplifiedRows:
    """Runs the same rows in both models. It is an Engine of two Engines.

    Inside ``as_base()`` the engine ``below`` computes as the base.
    """

    gain: torch.Tensor

    def __init__(
        self,
        tuned: Engine,
        below: Engine,
        strength: float,
        as_base: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.tuned, self.below = tuned, below
        self.strength, self.as_base = strength, as_base

    def free(self, alive: int) -> int:
        """How many rows may enter now."""
        return self.tuned.free(alive)

    def enter(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run the prompts of new rows. Scores of their next tokens, [rows, vocabulary]."""
        tuned = self.tuned.enter(prompts)
        with self.as_base():
            return self._scores(tuned, self.below.enter(prompts))

    def step(self, ids: Sequence[int]) -> torch.Tensor:
        """Give each row its newest token. Scores of the next ones, [rows, vocabulary]."""
        tuned = self.tuned.step(ids)
        with self.as_base():
            return self._scores(tuned, self.below.step(ids))

    def keep(self, order: Sequence[int]) -> None:
        """Continue with these rows in this order."""
        self.tuned.keep(order)
        self.below.keep(order)

    def _scores(self, tuned: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        ours = tuned.float().log_softmax(-1)
        self.gain = ours - base.to(ours.device).float().log_softmax(-1)
        return amplify(ours, self.gain, self.strength)


def amplify(ours: torch.Tensor, gain: torch.Tensor, strength: float) -> torch.Tensor:
    """Scores [rows, vocabulary] from log p and log p − log q; tokens that do not count last."""
    least = ours.amax(-1, keepdim=True) + math.log(PLAUSIBLE)
    return (ours + strength * gain).masked_fill(ours < least, _NEVER)
