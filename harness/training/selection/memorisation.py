"""Whether a checkpoint knows its training answers better than twins it never saw, against the null that the two are exchangeable."""

from __future__ import annotations

from collections.abc import Mapping

Items = Mapping[str, Mapping[str, float]]


def leaves_null(
    start: Items, now: Items, *, level: float = 0.95, seed: int = 0, draws: int = 2000
) -> bool:
    """Whether training rows gained more log-probability a token since the start than twins did, beyond ``level`` of a permutation null."""
    found = gain_and_null(start, now, level=level, seed=seed, draws=draws)
    return found is not None and beyond(*found)


def beyond(gain: float, limit: float) -> bool:
    """Whether rows gained more than twins at all, and more than the null's limit."""
    return gain > max(0.0, limit)


def gain_and_null(
    start: Items, now: Items, *, level: float = 0.95, seed: int = 0, draws: int = 2000
) -> tuple[float, float] | None:
    """By how much more training rows gained than twins, in nats a token, and what ``level`` of a permutation null stays below; None without both.

    The gain and not the value is compared: rows and twins need not be equally easy to the base. ``start`` and ``now``
    hold ``rows`` and ``twins``, each by id. Under the null which of them were trained on does not matter, so
    the labels are exchanged (METRICS §2: recall is always read beside a null).
    """
    import numpy as np

    gains = [
        np.array([now[group][id] - start[group][id] for id in now[group] if id in start[group]])
        for group in ("rows", "twins")
    ]
    rows, twins = gains
    if not len(rows) or not len(twins):
        return None
    seen = rows.mean() - twins.mean()
    pooled = np.concatenate([rows, twins])
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.broadcast_to(pooled, (draws, len(pooled))), axis=1)
    null = shuffled[:, : len(rows)].mean(1) - shuffled[:, len(rows) :].mean(1)
    return float(seen), float(np.quantile(null, level))
