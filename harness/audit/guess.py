"""Which prompt format an adapter or a merge was trained in: where its weights changed most.

Each row of a fine-tune ends its prompt with the same few tokens, the header before the answer, and
every answer is learnt behind them. So the change of the weights knows that header best. It is
measured on the base's own inputs, without generating or scoring a text
(docs/decisions/033-guess.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.audit.changes import InputRecorder, LayerChange, outside_attention
from harness.audit.probes import AskedFormats, ask_in
from harness.errors import HarnessError
from harness.models.adapters import base_only
from harness.models.logits import only_at
from harness.records import Format

if TYPE_CHECKING:
    import torch

    from harness.models import LoadedModel
    from harness.stats.intervals import Matrix

#: So far behind the best response, in nats, the odds of a format are 1 to e.
TEMPERATURE = 0.1
#: From this probability of a family on there is a preference.
CLEAR = 0.4
#: Keeps logarithms finite where nothing was added.
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Candidate:
    """Formats that write the prompts alike, with their response and their probability.

    ``response`` is in nats: how much the change adds at the end of the prompt (``responses``).
    ``probability`` is its family's share where this is the family's best format, else 0.
    """

    formats: tuple[str, ...]
    family: str
    response: float
    probability: float


@dataclass(frozen=True, slots=True)
class GuessedFamily:
    """A family of formats with its best format and its probability."""

    family: str
    format: str
    probability: float


def guess_format(
    base: LoadedModel,
    changes: Mapping[torch.nn.Module, LayerChange],
    formats: Sequence[Format],
    native: str | None = None,
) -> list[Candidate]:
    """The candidates, the likeliest first.

    ``base`` is the model before the change, or one whose adapter is ``changes``: it is switched
    off. ``native`` is named first among formats that write alike. Raises HarnessError where no
    format can be asked.
    """
    asked = ask_in(formats, base.tokenizer, native)
    found = responses(base, changes, asked)
    means = found.mean(1)
    order = np.argsort(-means, kind="stable").tolist()
    best: dict[str, int] = {}
    for at in order:
        best.setdefault(asked[at].family, at)
    odds = {at: _odds(found[order[0]] - found[at]) for at in best.values()}
    total = sum(odds.values())
    return [
        Candidate(asked[at].formats, asked[at].family, float(means[at]), odds.get(at, 0.0) / total)
        for at in order
    ]


def _odds(behind: Matrix) -> float:
    """The odds of a format that is this far behind the best one, layer by layer.

    Few layers, or layers that contradict each other, make a difference less sure.
    """
    error = float(behind.std(ddof=1)) / math.sqrt(len(behind)) if len(behind) > 1 else math.inf
    return math.exp(-float(behind.mean()) / math.hypot(TEMPERATURE, error))


def families_of(found: Sequence[Candidate]) -> list[GuessedFamily]:
    """The families of the candidates with their best format, the likeliest first."""
    best = sorted((one for one in found if one.probability > 0), key=lambda one: -one.probability)
    return [GuessedFamily(one.family, one.formats[0], one.probability) for one in best]


def is_clear(families: Sequence[GuessedFamily]) -> bool:
    """Whether the first family is a guess, and not the first of many."""
    return families[0].probability >= CLEAR


def responses(
    base: LoadedModel, changes: Mapping[torch.nn.Module, LayerChange], asked: Sequence[AskedFormats]
) -> Matrix:
    """How much the change adds at the end of the prompts: candidates × layers, in nats.

    The mean over the prompts of log(|Δ x|² ∕ |x|²), where x is the input that the base gives a
    layer, half of it with x as it is and half with x less its mean over all candidates. The first
    half prefers whatever is like an answer's beginning; the second compares what is particular to
    each header, and errs at odd ones. Raises HarnessError where no changed layer sees all tokens,
    and for numbers that are not finite.
    """
    import torch

    shape = len(asked), len(asked[0].prompts), -1
    columns = []
    for layer, x in _inputs(base, changes, asked).items():
        rows = x.view(shape)
        both = torch.stack([rows, rows - rows.mean(0)])
        added = changes[layer].added(both.flatten(0, 2)).view(both.shape[:3])
        ratios = (added + _TINY) / (both.square().sum(-1) + _TINY)
        columns.append(ratios.log().mean((0, 2)))
    found: Matrix = torch.stack(columns, 1).double().numpy()
    if not np.isfinite(found).all():
        raise HarnessError(
            "the weights, or what was added to them, hold numbers that are not finite",
            where=base.name,
        )
    return found


def _inputs(
    base: LoadedModel, layers: Iterable[torch.nn.Module], asked: Sequence[AskedFormats]
) -> dict[torch.nn.Module, torch.Tensor]:
    """The inputs [prompts, in] of the layers at the last token of all prompts, in order."""
    import torch

    prompts = [prompt for one in asked for prompt in one.prompts]
    first = torch.tensor([0])  # no logits are read
    recorder = InputRecorder(layers)
    with base_only(base), base.inference(), only_at(base.base, first):
        for prompt in prompts:
            base.model(torch.tensor([prompt], device=base.device))
    inputs = recorder.close([len(prompt) for prompt in prompts])
    if not inputs:
        raise HarnessError(
            "no changed layer sees all tokens of a prompt: only experts were trained"
        )
    return {layer: inputs[layer] for layer in outside_attention(base, inputs)}
