"""How many times a file holds an adapter's change: estimated by regression, tensor by tensor.

With D what a file differs from the base by, and P what the adapter adds, k = <D, P> / <P, P> is 1
where the adapter was merged, 0 where it is missing, 2 where it was merged twice. Errors of rounding
and of quantisation hardly correlate with P, so that k is sharp in a large matrix even where they
are much larger than P.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models.completeness import some_names

if TYPE_CHECKING:
    import torch

#: This number of standard errors is allowed for chance: over thousands of matrices 1e-9 each.
_SIGMAS = 6.0
#: No usual mistake makes k differ by less than this from 0, 1 or 2.
_CLOSE = 0.02
#: Tensors whose k is less certain count only together, not alone.
_CERTAIN = 0.05


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one tensor: P·P, D·P, D·D, and how many numbers it has."""

    name: str
    pp: float
    dp: float
    dd: float
    n: int

    @classmethod
    def of(cls, name: str, added: torch.Tensor, found: torch.Tensor) -> Sums:
        """From P and D, in float64."""
        p, d = added.double().flatten(), found.double().flatten()
        return cls(name, float(p @ p), float(d @ p), float(d @ d), p.numel())

    @property
    def k(self) -> float:
        """How many times D holds P."""
        return self.dp / self.pp

    @property
    def error(self) -> float:
        """The standard error of k."""
        return math.sqrt(max(0.0, self.dd - self.dp**2 / self.pp) / self.n / self.pp)


@dataclass(frozen=True, slots=True)
class Scale:
    """What all tensors together say. ``kind`` is "" where the adapter is there once.

    ``k`` has the standard error ``error``.
    """

    k: float
    error: float
    kind: str = ""
    message: str = ""


def judge_scale(sums: Sequence[Sums]) -> Scale | None:
    """Whether all tensors contain the adapter exactly once; None if it changes nothing.

    Kinds: adapter-missing (in all tensors, or in those that are named), adapter-applied-twice,
    alpha-differs, and scale-varies if the tensors disagree, as those of another file do.
    """
    sums = [one for one in sums if one.pp > 0]
    if not sums:
        return None
    pp = sum(one.pp for one in sums)
    k = sum(one.dp for one in sums) / pp
    error = math.sqrt(sum((one.error * one.pp) ** 2 for one in sums)) / pp
    kind, message = _verdict(sums, k, error)
    return Scale(k, error, kind, message)


def _verdict(sums: Sequence[Sums], k: float, error: float) -> tuple[str, str]:
    certain = [one for one in sums if one.error < _CERTAIN]
    absent = [one for one in certain if _is(one.k, 0.0, one.error)]
    if len(absent) == len(sums) or (_is(k, 0.0, error) and error < _CERTAIN):
        return "adapter-missing", f"none of {len(sums)} tensors contains the adapter"
    if absent and all(_is(one.k, 1.0, one.error) for one in sums if one not in absent):
        names = some_names(one.name for one in absent)
        missing = f"the adapter is missing in {len(absent)} of {len(sums)} tensors: {names}"
        return "adapter-missing", missing
    if any(not _is(one.k, k, one.error) for one in certain):
        low, high = min(one.k for one in certain), max(one.k for one in certain)
        varies = f"the tensors contain the adapter's change {low:.2f} to {high:.2f} times"
        return "scale-varies", varies
    if _is(k, 1.0, error):
        return "", ""
    if _is(k, 2.0, error):
        return "adapter-applied-twice", "the adapter was merged twice"
    return "alpha-differs", f"the tensors contain the adapter's change {k:.3g} times, not once"


def _is(k: float, value: float, error: float) -> bool:
    return abs(k - value) <= _CLOSE * max(1.0, abs(value)) + _SIGMAS * error
