"""Which prompt format an adapter or a merged model was trained in, from the change of its weights.

Every prompt of a fine-tune ends with the same few tokens, the header before the answer. So the
change of the weights responds most to that header. It is measured on the base's own inputs, without
generating or scoring a text (docs/decisions/033-guess.md).
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

#: A format whose response is this many nats below the best has odds of 1 to e.
TEMPERATURE = 0.1
#: The lowest probability of a family that is called a guess.
CLEAR = 0.4
#: Families that are named where none is clear.
_SHOWN = 5
#: Keeps logarithms finite where nothing was added.
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Candidate:
    """Formats that write the same prompts, with their response and their probability.

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

    ``base`` is the model before the change, or one with the adapter that ``changes`` describes,
    which is switched off. ``native`` comes first among formats that write the same prompts. Raises
    HarnessError if no format can write the prompts.
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
    """The odds of a format from how far it is behind the best one, layer by layer.

    Few layers, or layers that contradict each other, make a difference less certain.
    """
    error = float(behind.std(ddof=1)) / math.sqrt(len(behind)) if len(behind) > 1 else math.inf
    return math.exp(-float(behind.mean()) / math.hypot(TEMPERATURE, error))


def families_of(found: Sequence[Candidate]) -> list[GuessedFamily]:
    """The families of the candidates with their best format, the likeliest first."""
    best = sorted((one for one in found if one.probability > 0), key=lambda one: -one.probability)
    return [GuessedFamily(one.family, one.formats[0], one.probability) for one in best]


def is_clear(families: Sequence[GuessedFamily]) -> bool:
    """Whether the first family is likely enough to be called a guess."""
    return families[0].probability >= CLEAR


def in_words(families: Sequence[GuessedFamily]) -> str:
    """The guess with its probability and the runner-up, or the likeliest families."""
    names = [f"{one.format} (family {one.family}, {one.probability:.0%})" for one in families]
    if is_clear(families):
        return f"most likely trained in: {'; runner-up: '.join(names[:2])}"
    return f"no clear preference: {', '.join(names[:_SHOWN])}"


def responses(
    base: LoadedModel, changes: Mapping[torch.nn.Module, LayerChange], asked: Sequence[AskedFormats]
) -> Matrix:
    """How strongly the change responds to the end of the prompts: candidates × layers, in nats.

    The mean over the prompts of log(|Δ x|² ∕ |x|²), where x is the layer's input in the base. Half
    of it uses x as it is, half uses x less its mean over all candidates. The first half favours
    headers that resemble the beginning of an answer; the second compares what is particular to each
    header, and favours odd ones. Raises HarnessError if no changed layer sees all tokens, and for
    numbers that are not finite.
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
            "the weights or their change contain numbers that are not finite",
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
