"""Refuses a base of which not every weight was loaded.

transformers fills a gap with random numbers and says so in its log only. A report measured on such
a model is worthless, and looks like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from harness.errors import HarnessError

#: Causal masks and rotary tables, which old files store and today's classes compute.
_COMPUTED = re.compile(r"(^|\.)((attn|attention)\.(bias|masked_bias|causal_mask)|inv_freq)$")
_NAMED = 3


def refuse_incomplete(model: Any, info: dict[str, Any], where: str) -> None:
    """Raise HarnessError when a model's weights and its files do not match, with the first names.

    ``info`` is what ``from_pretrained(output_loading_info=True)`` returned. Tied weights and keys
    that the model's class itself ignores are in none of its sets.
    """
    missing = set(info["missing_keys"])
    wrong = {key: (tuple(stored), tuple(own)) for key, stored, own in info["mismatched_keys"]}
    unknown = {key for key in info["unexpected_keys"] if not _COMPUTED.search(key)}
    if missing and missing.issuperset(dict(model.named_parameters())):
        stored = f", which hold {some_names(unknown)}" if unknown else ""
        raise HarnessError(
            f"none of this {type(model).__name__}'s weights is in its files{stored}",
            where=where,
            hint="config.json and the weights belong to different models",
        )
    found = []
    if missing:
        found.append(f"not in its files: {some_names(missing)}")
    if wrong:
        first = min(wrong, key=_in_order)
        shapes = "{} stored, {} expected".format(*map(list, wrong[first]))
        found.append(f"of another shape: {some_names(wrong)}, {first}: {shapes}")
    if unknown:
        found.append(f"in its files but not in the model: {some_names(unknown)}")
    if found:
        raise HarnessError(
            f"weights of this {type(model).__name__} are {'; '.join(found)}",
            where=where,
            hint="config.json and the weights do not belong together, or a file is missing",
        )


def some_names(keys: Iterable[str]) -> str:
    """The first names in order, and how many there are."""
    names = sorted(keys, key=_in_order)
    more = f", … ({len(names)} in all)" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _in_order(key: str) -> list[tuple[int, str]]:
    """Layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split(".")]
