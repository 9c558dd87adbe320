"""The sizes of forward passes: what the memory of a training step grows with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.training.data.examples import Example

#: Steps of a plan that are cut to find its largest pass.
_STEPS = 200


@dataclass(frozen=True, slots=True)
class PassSize:
    """One forward pass. The memory that it needs is linear in these three numbers.

    ``tokens`` counts padding. ``supervised`` are the tokens whose logits are computed. ``scores``
    are the entries of one head's attention matrices, Σ width² over the rows: some kernels keep
    them.
    """

    tokens: int
    supervised: int
    scores: int

    @classmethod
    def one_row(cls, tokens: int, supervised: int | None = None) -> PassSize:
        """A pass over a single row. By default all is supervised but its first token, which nothing
        predicts."""
        return cls(tokens, tokens - 1 if supervised is None else supervised, tokens**2)


def pass_sizes(
    steps: Iterable[Sequence[Example]], sizes: Callable[[Sequence[Example]], Iterable[PassSize]]
) -> frozenset[PassSize]:
    """The distinct ``sizes`` of all passes of these steps.

    Of a long plan the 200 steps with the most padded tokens are looked at.
    """
    filled = [step for step in steps if step]
    largest = sorted(filled, key=_padded_tokens, reverse=True)[:_STEPS]
    return frozenset(size for step in largest for size in sizes(step))


def _padded_tokens(step: Sequence[Example]) -> int:
    return len(step) * max(len(example.encoded.ids) for example in step)
