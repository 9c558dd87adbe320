"""Does the merged model equal base and adapter? Tensor by tensor, from the adapter's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models.completeness import some_names
from harness.ship.findings import Checked, Finding
from harness.ship.weights.replay import Change
from harness.ship.weights.scale import Sums, judge_scale
from harness.ship.weights.tensors import HEAD, Tensors

if TYPE_CHECKING:
    import torch

CHECK = "weights"
#: Half a unit in the last place, relative, and the smallest number's half.
ROUNDING = {
    "float32": (2.0**-24, 2.0**-149),
    "bfloat16": (2.0**-8, 2.0**-133),
    "float16": (2.0**-11, 2.0**-25),
}
_AGAIN = "merge again: harness merge ADAPTER --base BASE"
_REMEDIES = {
    "adapter-missing": "ship the merged model, not the base",
    "adapter-applied-twice": "merge into the base, not into a model that is merged already",
    "alpha-differs": "merge with the lora_alpha and r of adapter_config.json",
    "scale-varies": _AGAIN,
}


@dataclass(frozen=True, slots=True)
class _Compared:
    """One tensor: whether its bits, and its numbers within rounding, are the expected ones."""

    name: str
    change: Change | None
    exact: bool
    within: bool
    is_base: bool
    sums: Sums | None
    has_effect: bool


def check_merged(
    base: Tensors,
    changes: Mapping[str, Change],
    merged: Tensors,
    dtype: str,
    unknown: Sequence[str] = (),
) -> Checked:
    """Compare a merged model with base and adapter, one tensor at a time.

    In float32 the bits are those of the replay or the difference is that of the order of sums. In
    16 bits base and result may each have been rounded. ``unknown`` are tensors of the adapter that
    the replay does not understand: their layers are not checked, and the result says so.
    """
    skipped = {name.split(".lora_")[0] + ".weight" for name in unknown}
    compared, missing, unexpected = [], [], []
    findings: list[Finding] = []
    for name, change in _expected(base, changes, merged):
        if name in skipped:
            continue
        if name not in merged.names:
            missing.append(name)
        elif (before := _before(base, changes, name)) is not None:
            compared.append(_compare(name, change, before, merged.read(name), dtype))
        elif change is None or change.whole is None:
            unexpected.append(name)
        else:
            compared.append(_compare(name, change, change.whole, merged.read(name), dtype))
    if HEAD in missing and merged.tied:
        missing.remove(HEAD)
        findings.append(_tied_head_lost(merged))
    where = merged.where
    if missing:
        text = f"{len(missing)} tensors are missing: {some_names(missing)}"
        findings.append(Finding(CHECK, "tensor-missing", where, text, _AGAIN))
    if unexpected:
        text = f"{len(unexpected)} tensors are neither the base's nor the adapter's: "
        text += some_names(unexpected)
        findings.append(Finding(CHECK, "tensor-unexpected", where, text, _AGAIN))
    findings += _judge(compared, where, dtype)
    exact = sum(one.exact for one in compared)
    reason = f"{exact} of {len(compared)} tensors equal the replay bit for bit"
    if exact < len(compared) and not findings:
        reason += f", the others within rounding of {dtype}"
    if unknown:
        reason += f"; not checked, as the replay does not know them: {some_names(unknown)}"
    if not compared and not findings:
        return Checked.not_checked(CHECK, "hf", reason)
    return Checked.of(CHECK, "hf", findings, reason)


def _expected(
    base: Tensors, changes: Mapping[str, Change], merged: Tensors
) -> Iterator[tuple[str, Change | None]]:
    """The names that either side has. A tied head is no tensor of its own."""
    names = set(base.names) | set(changes) | set(merged.names)
    if HEAD not in changes and HEAD not in merged.names and base.tied:
        names.discard(HEAD)
    for name in sorted(names):
        yield name, changes.get(name)


def _before(base: Tensors, changes: Mapping[str, Change], name: str) -> torch.Tensor | None:
    """The base's tensor; for a head that was tied to the embedding, that one."""
    if name in base.names:
        return base.read(name)
    embedding = base.embedding()
    if name != HEAD or not embedding:
        return None
    found = base.read(embedding)
    inside = changes.get(embedding)
    return found if name in changes or inside is None else inside.apply(found)


def _compare(
    name: str, change: Change | None, before: torch.Tensor, after: torch.Tensor, dtype: str
) -> _Compared:
    import torch

    kind = getattr(torch, dtype)
    before = (
        before.to(kind)
        if before.is_floating_point() and before.dtype != torch.float32
        else (before.to(kind) if dtype != "float32" else before)
    )
    expected = change.apply(before) if change else before.float()
    got = after.float()
    if got.shape != expected.shape:
        return _Compared(name, change, False, False, False, None, True)
    relative, least = ROUNDING[dtype]
    was = before.float() if before.shape == expected.shape else expected
    exact = bool(torch.equal(expected.to(kind).float(), got))
    allowed = relative * (expected.abs() + was.abs()) + least
    if change:
        bound = change.bound(before) if change.is_added else expected.abs()
        allowed = allowed + 2.0**-20 * bound
    within = exact or bool(((got - expected).abs() <= allowed).all())
    added = change is not None and change.is_added
    sums = Sums.of(name, expected - was, got - was) if added else None
    effect = not bool(torch.equal(expected.to(kind), was.to(kind)))
    return _Compared(name, change, exact, within, bool(torch.equal(got, was)), sums, effect)


def _judge(compared: Sequence[_Compared], where: str, dtype: str) -> Iterator[Finding]:
    """What is wrong with the tensors that are on both sides."""
    untouched = [one for one in compared if one.change is None]
    wrong = [one for one in untouched if not one.within]
    if len(wrong) > len(untouched) / 2:
        text = f"{len(wrong)} of {len(untouched)} tensors that the adapter leaves alone are not "
        text += f"the base's: {some_names(one.name for one in wrong)}"
        remedy = "merge into the base that the adapter was trained on"
        yield Finding(CHECK, "base-of-another-model", where, text, remedy)
        return
    added = [one for one in compared if one.sums is not None]
    if any(not one.exact for one in added):
        yield from _judge_added(added, where)
    elif added and not any(one.has_effect for one in compared if one.change):
        text = f"rounding to {dtype} leaves nothing of the adapter: all tensors are the base's"
        yield Finding(CHECK, "adapter-below-rounding", where, text, "ship with --dtype float32")
    replaced = [one for one in compared if one.change is not None and one.sums is None]
    lost = [one.name for one in replaced if not one.within and one.is_base]
    if lost:
        text = f"the adapter's own {some_names(lost)} is missing: the base's is there instead"
        yield Finding(CHECK, "adapter-missing", where, text, _AGAIN)
    wrong += [one for one in replaced if not one.within and not one.is_base]
    if wrong:
        yield _differ([one.name for one in wrong], where)


def _judge_added(added: Sequence[_Compared], where: str) -> Iterator[Finding]:
    sums = [one.sums for one in added if one.sums is not None]
    scale = judge_scale(sums)
    if scale is not None and not scale.kind and all(one.is_base for one in added):
        text = f"none of {len(added)} tensors contains the adapter"
        yield Finding(CHECK, "adapter-missing", where, text, _REMEDIES["adapter-missing"])
    elif scale is not None and scale.kind:
        yield Finding(CHECK, _kind(scale.kind), where, scale.message, _REMEDIES[scale.kind])
    elif wrong := [one.name for one in added if not one.within]:
        yield _differ(wrong, where)


def _kind(kind: str) -> str:
    return "weights-differ" if kind == "scale-varies" else kind


def _differ(names: Sequence[str], where: str) -> Finding:
    text = f"{len(names)} tensors differ from base and adapter: {some_names(names)}"
    return Finding(CHECK, "weights-differ", where, text, _AGAIN)


def _tied_head_lost(merged: Tensors) -> Finding:
    return Finding(
        CHECK,
        "tied-head-lost",
        merged.where,
        f"{HEAD} is missing, and config.json ties it to the input embedding, which differs",
        "save the head as a tensor of its own, with tie_word_embeddings false",
    )
