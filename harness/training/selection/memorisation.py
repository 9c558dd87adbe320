"""Whether a checkpoint knows its training answers better than controls it never saw.

The null hypothesis of the permutation test is that the two are exchangeable.
"""

from __future__ import annotations

from collections.abc import Mapping

Items = Mapping[str, Mapping[str, float]]


def controls_of(items: Items) -> Mapping[str, float]:
    """The controls' values; logs of earlier versions call them twins."""
    return items.get("controls") or items.get("twins") or {}


def leaves_null(
    start: Items, now: Items, *, level: float = 0.95, seed: int = 0, permutations: int = 2000
) -> bool:
    """Whether training rows gained more than controls, beyond ``level`` of the null."""
    gain = gain_and_null(start, now, level=level, seed=seed, permutations=permutations)
    return gain is not None and beyond(*gain)


def beyond(gain: float, limit: float) -> bool:
    """Whether rows gained more than controls at all, and more than the null's limit."""
    return gain > max(0.0, limit)


def gain_and_null(
    start: Items, now: Items, *, level: float = 0.95, seed: int = 0, permutations: int = 2000
) -> tuple[float, float] | None:
    """How much more training rows gained than controls, and the ``level`` quantile of the null.

    Both in nats a token; None without rows or controls. The gain is compared, not the value: rows
    and controls need not be equally easy for the base. ``start`` and ``now`` have ``rows`` and
    ``controls``, each by id. Under the null it does not matter which of them were trained on, so
    the labels are exchanged.
    """
    import numpy as np

    rows, controls = (
        np.array([now[item] - start[item] for item in now if item in start])
        for start, now in (
            (start["rows"], now["rows"]),
            (controls_of(start), controls_of(now)),
        )
    )
    if not len(rows) or not len(controls):
        return None
    pooled = np.concatenate([rows, controls])
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.broadcast_to(pooled, (permutations, len(pooled))), axis=1)
    null = shuffled[:, : len(rows)].mean(1) - shuffled[:, len(rows) :].mean(1)
    return float(rows.mean() - controls.mean()), float(np.quantile(null, level))
