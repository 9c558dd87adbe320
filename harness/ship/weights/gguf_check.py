"""Does a GGUF file hold the merged model's weights, as far as its types can hold them?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models.completeness import some_names
from harness.ship.findings import Checked, Finding
from harness.ship.weights.gguf_file import FLOATS, GgufFile, largest_error
from harness.ship.weights.merged_check import CHECK
from harness.ship.weights.nearest_codes import holds
from harness.ship.weights.replay import Change
from harness.ship.weights.scale import Scale, Sums, judge_scale
from harness.ship.weights.tensors import HEAD, Tensors

if TYPE_CHECKING:
    import numpy as np
    import torch

_AGAIN = "convert the shipped model folder again"
_REMEDIES = {
    "adapter-missing": "convert the merged model, not the base",
    "adapter-applied-twice": "convert the model that was merged once",
    "alpha-differs": "convert the model that was merged with the adapter's own alpha and r",
    "quantised-from-another-file": "quantise the file that was converted from the shipped model",
}
#: What a difference of the scale may leave unexplained, relative: k is estimated.
_REST = 0.02
#: Of the adapter's change; what is left of less is hardly the adapter.
_LEAST_KEPT = 0.5
#: What llama.cpp computes when it loads a file, and old model folders store.
_COMPUTED = ("rotary_emb.inv_freq", "attn.bias", "masked_bias")


@dataclass(frozen=True, slots=True)
class _Held:
    """One tensor: its type, its relative error, and whether each number is within rounding."""

    name: str
    kind: str
    error: float
    fits: bool
    length: float
    """The norm of the larger of what was given and what is stored."""
    sums: Sums | None
    nearest: bool
    """Whether its codes are the nearest to what was given: then rounding alone changed it."""

    @property
    def limit(self) -> float:
        """The relative error that the type explains."""
        return FLOATS.get(self.kind, 0.0) or largest_error(self.kind)

    def explained(self, k: float) -> bool:
        """Whether the type explains the difference to the base with k times the change."""
        if self.sums is None:
            return self.error <= self.limit
        left = self.sums.dd - 2 * k * self.sums.dp + k**2 * self.sums.pp
        return math.sqrt(max(0.0, left)) <= max(_REST, self.limit) * self.length


def check_gguf(
    file: GgufFile,
    merged: Tensors,
    runtime: str,
    *,
    base: Tensors | None = None,
    changes: Mapping[str, Change] | None = None,
) -> Checked:
    """Compare a file with the merged model, one tensor at a time.

    With ``base`` and ``changes`` the adapter's change is searched for in the quantised numbers. A
    tensor of the model that gguf has no name for is not compared, and the result says so.
    """
    where = file.path.name
    names = file.names_of(merged.names)
    if not names:
        reason = f"the package gguf knows no names for {file.architecture!r}: pip install -U gguf"
        return Checked.not_checked(CHECK, runtime, reason)
    findings: list[Finding] = []
    unnamed = sorted(name for name in merged.names - set(names) if not name.endswith(_COMPUTED))
    absent = [name for name, here in names.items() if here not in file.tensors]
    if HEAD in absent:
        absent.remove(HEAD)
        if not _is_embedding(merged):
            findings.append(_tied_head_lost(where))
    if absent:
        text = f"{len(absent)} tensors are missing: {some_names(absent)}"
        findings.append(Finding(CHECK, "tensor-missing", where, text, _AGAIN))
    held, odd = [], []
    for name, here in sorted(names.items()):
        if here not in file.tensors:
            continue
        found = _hold(file, here, name, merged, base, (changes or {}).get(name))
        if found is None:
            odd.append(here)
        else:
            held.append(found)
    if odd:
        text = f"{len(odd)} tensors have another shape: {some_names(odd)}"
        findings.append(Finding(CHECK, "shape-differs", where, text, _AGAIN))
    findings += _judge(held, where)
    return Checked.of(CHECK, runtime, findings, _reason(held, unnamed))


def _is_embedding(merged: Tensors) -> bool:
    """Whether a model's head has the numbers of its input embedding, which llama.cpp takes then."""
    import torch

    embedding = merged.embedding()
    return bool(embedding) and torch.equal(merged.read(HEAD), merged.read(embedding))


def _hold(
    file: GgufFile,
    here: str,
    name: str,
    merged: Tensors,
    base: Tensors | None,
    change: Change | None,
) -> _Held | None:
    """Compare one tensor; None where it has another shape."""
    import numpy as np

    stored = file.read(here)
    given = _numbers(merged.read(name))
    if given.size != stored.size:
        return None
    best: _Held | None = None
    for form, wanted in file.stored_forms(here, given).items():
        wanted = wanted.reshape(stored.shape)  # noqa: PLW2901  # a vector may have a row of its own
        length = float(np.linalg.norm(wanted.astype(np.float64)))
        error = float(np.linalg.norm((stored - wanted).astype(np.float64))) / (length or 1.0)
        length = max(length, float(np.linalg.norm(stored.astype(np.float64))))
        kind = file.kind(here)
        fits = _fits(stored, wanted, kind, error)
        sums = None
        if base is not None and change is not None and change.is_added and name in base.names:
            before = _numbers(base.read(name))
            if before.size == given.size:
                was = file.stored_forms(here, before)[form].reshape(stored.shape)
                sums = _sums(here, wanted - was, stored - was)
        if best is None or error < best.error:
            best = _Held(here, kind, error, fits, length, sums, holds(stored, wanted, kind))
    return best


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().float().numpy()
    return found


def _sums(name: str, added: np.ndarray, found: np.ndarray) -> Sums:
    import torch

    return Sums.of(name, torch.from_numpy(added), torch.from_numpy(found))


def _fits(stored: np.ndarray, wanted: np.ndarray, kind: str, error: float) -> bool:
    """Whether the type explains the difference: number by number for floats, else as a whole."""
    import numpy as np

    if kind in FLOATS:
        least = 2.0**-25 if kind == "F16" else 0.0
        return bool((np.abs(stored - wanted) <= FLOATS[kind] * np.abs(wanted) + least).all())
    return error <= largest_error(kind)


def _judge(held: Sequence[_Held], where: str) -> list[Finding]:
    scale = _scale([one for one in held if not one.nearest])
    wrong = [one for one in held if not one.fits]
    strange = [one for one in wrong if not one.explained(scale.k if scale else 1.0)]
    other = "quantised-from-another-file"
    if len(strange) > len(held) / 2:
        worst = max(strange, key=lambda one: one.error)
        text = f"{len(strange)} of {len(held)} tensors are not the shipped model's: {worst.name} "
        text += f"is {worst.error:.0%} away, and {worst.kind} explains {worst.limit:.1%}"
        return [Finding(CHECK, other, where, text, _REMEDIES[other])]
    if scale is not None and scale.kind in _REMEDIES:
        return [Finding(CHECK, scale.kind, where, scale.message, _REMEDIES[scale.kind])]
    if wrong:
        names = some_names(one.name for one in wrong)
        text = f"{len(wrong)} of {len(held)} tensors differ from the shipped model: {names}"
        return [Finding(CHECK, "weights-differ", where, text, _AGAIN)]
    if scale is not None and scale.kind:
        return [Finding(CHECK, other, where, scale.message, _REMEDIES[other])]
    kept = _scale(held)
    if kept is not None and kept.k < _LEAST_KEPT:
        text = f"rounding leaves {max(0.0, kept.k):.0%} of the adapter's change"
        remedy = "ship a type with more bits, such as Q8_0"
        return [Finding(CHECK, "adapter-rounded-away", where, text, remedy)]
    return []


def _scale(held: Sequence[_Held]) -> Scale | None:
    return judge_scale([one.sums for one in held if one.sums is not None])


def _reason(held: Sequence[_Held], unnamed: Sequence[str]) -> str:
    """What was compared: tensors by type with their largest error, and how sharp the scale is."""
    worst: dict[str, float] = {}
    for one in held:
        worst[one.kind] = max(worst.get(one.kind, 0.0), one.error)
    types = ", ".join(f"{kind} {error:.2g}" for kind, error in sorted(worst.items()))
    text = f"{len(held)} tensors compared; largest relative errors: {types}"
    scale = _scale(held)
    if scale is not None:
        text += f"; the adapter is there {scale.k:.3f} ± {1.96 * scale.error:.3f} times"
    if unnamed:
        text += f"; not compared, as gguf has no names for them: {some_names(unnamed)}"
    return text


def _tied_head_lost(where: str) -> Finding:
    return Finding(
        CHECK,
        "tied-head-lost",
        where,
        "output.weight is missing, so llama.cpp uses the input embedding, which differs",
        _AGAIN,
    )
