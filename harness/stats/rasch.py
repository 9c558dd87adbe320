"""The Rasch model of an items × formats table of 0 and 1 of which only some cells were observed.

P(item i is right in format f) = σ(μ + β_i + θ_f), fitted by ridge-penalised logistic regression
(PromptEval, Polo et al. 2024, arXiv 2405.17202). The penalties are the precisions of β and θ as
random effects, found by their marginal likelihood (Laplace). With fixed penalties the θ of formats
that were observed on a dozen items are either shrunk, and their quantiles too close together, or
noisy, and their quantiles too far apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from harness.stats.intervals import Matrix

#: Candidates for the standard deviation of formats in logits, with a half-normal prior of scale 1.
_DEVIATIONS = (0.03, 0.1, 0.17, 0.24, 0.32, 0.4, 0.5, 0.6, 0.72, 0.86, 1.03, 1.24, 1.5, 1.9, 2.5)
_WEAK = 0.01
"""Precision of μ: a standard deviation of 10 logits."""


@dataclass(frozen=True)
class Rasch:
    """A fit with given precisions.

    ``effects`` are μ, then β of each item, then θ of each format, in logits. The inverse of
    ``hessian`` is their posterior covariance (Laplace).
    """

    effects: Matrix
    hessian: Matrix
    log_evidence: float
    items: int

    def logits(self) -> Matrix:
        """The fitted logits, [items, formats]."""
        logits: Matrix = (
            self.effects[0]
            + self.effects[1 : 1 + self.items, None]
            + self.effects[None, 1 + self.items :]
        )
        return logits

    def draw(self, rng: np.random.Generator, draws: int) -> Matrix:
        """Effects from their posterior, [draws, effects]."""
        import numpy as np
        from scipy.linalg import solve_triangular

        factor = np.linalg.cholesky(self.hessian)
        drawn: Matrix = (
            self.effects
            + solve_triangular(
                factor, rng.standard_normal((len(self.effects), draws)), lower=True, trans="T"
            ).T
        )
        return drawn


def fit_rasch(
    table: Matrix, item_deviation: float, format_deviation: float, start: Matrix | None = None
) -> Rasch:
    """The posterior mode for these standard deviations, by Newton's method, and its log evidence.

    ``table`` is [items, formats] of 0, 1 and NaN for not observed; ``start`` are effects to start
    from.
    """
    import numpy as np

    items, formats = table.shape
    rows, columns = np.nonzero(~np.isnan(table))
    right = table[rows, columns]
    precision = np.concatenate(
        [[_WEAK], np.full(items, item_deviation**-2.0), np.full(formats, format_deviation**-2.0)]
    )
    effects = np.zeros(1 + items + formats) if start is None else start.copy()
    objective = _objective(effects, rows, columns, right, precision, items)
    for _ in range(100):
        chance = 1 / (1 + np.exp(-_logits_at(effects, rows, columns, items)))
        gradient = _scatter(chance - right, rows, columns, items, formats) + precision * effects
        step = np.linalg.solve(
            _hessian(chance * (1 - chance), rows, columns, items, formats, precision), gradient
        )
        size = 1.0
        while (
            tried := _objective(effects - size * step, rows, columns, right, precision, items)
        ) > objective + 1e-9 and size > 1e-4:
            size /= 2
        effects, gain, objective = effects - size * step, objective - tried, tried
        if abs(gain) < 1e-8:
            break
    chance = 1 / (1 + np.exp(-_logits_at(effects, rows, columns, items)))
    hessian = _hessian(chance * (1 - chance), rows, columns, items, formats, precision)
    evidence = (
        -objective
        + 0.5 * float(np.log(precision).sum())
        - 0.5 * float(np.linalg.slogdet(hessian)[1])
    )
    return Rasch(effects, hessian, evidence, items)


def _logits_at(effects: Matrix, rows: Matrix, columns: Matrix, items: int) -> Matrix:
    logits: Matrix = effects[0] + effects[1 + rows] + effects[1 + items + columns]
    return logits


def _objective(
    effects: Matrix, rows: Matrix, columns: Matrix, right: Matrix, precision: Matrix, items: int
) -> float:
    import numpy as np

    logits = _logits_at(effects, rows, columns, items)
    return float(
        (np.logaddexp(0, logits) - right * logits).sum() + 0.5 * (precision * effects**2).sum()
    )


def _scatter(values: Matrix, rows: Matrix, columns: Matrix, items: int, formats: int) -> Matrix:
    import numpy as np

    return np.concatenate(
        [[values.sum()], np.bincount(rows, values, items), np.bincount(columns, values, formats)]
    )


def _hessian(
    weights: Matrix, rows: Matrix, columns: Matrix, items: int, formats: int, precision: Matrix
) -> Matrix:
    import numpy as np

    sums = _scatter(weights, rows, columns, items, formats)
    hessian = np.diag(sums + precision)
    hessian[0, 1:] = hessian[1:, 0] = sums[1:]
    cross = np.zeros((items, formats))
    cross[rows, columns] = weights
    hessian[1 : 1 + items, 1 + items :] = cross
    hessian[1 + items :, 1 : 1 + items] = cross.T
    return hessian


def item_deviation(table: Matrix, format_deviation: float = 0.5) -> float:
    """The standard deviation of items in logits with the highest evidence, from 0.1 to 4."""
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(
        lambda log: -fit_rasch(table, 2.0**log, format_deviation).log_evidence,
        bounds=(-3.3, 2.0),
        method="bounded",
        options={"xatol": 0.1},
    )
    return float(2.0**best.x)


def draw_format_means(table: Matrix, rng: np.random.Generator, draws: int = 1000) -> Matrix:
    """Each format's mean over all items, [draws, formats], with unobserved cells simulated.

    A parametric bootstrap: a standard deviation of the formats is drawn from its posterior, effects
    from theirs given it, and unobserved cells from the effects. So the quantiles over formats in a
    draw are as far apart as the whole table's. Raises ValueError when nothing was observed.
    """
    import numpy as np

    if np.isnan(table).all():
        raise ValueError("no cell was observed")
    items, formats = table.shape
    spread = item_deviation(table)
    fits: list[Rasch] = []
    for deviation in _DEVIATIONS:
        fits.append(fit_rasch(table, spread, deviation, fits[-1].effects if fits else None))
    widths = np.gradient(np.array(_DEVIATIONS))
    log = (
        np.array([fit.log_evidence for fit in fits])
        - np.array(_DEVIATIONS) ** 2 / 2
        + np.log(widths)
    )
    weights = np.exp(log - log.max())
    observed = np.nansum(table, axis=0)
    unobserved = np.isnan(table)
    means: list[Matrix] = []
    for fit, count in zip(fits, rng.multinomial(draws, weights / weights.sum()), strict=True):
        if not count:
            continue
        for effects in fit.draw(rng, count):
            chance = 1 / (
                1
                + np.exp(-(effects[0] + effects[1 : 1 + items, None] + effects[None, 1 + items :]))
            )
            means.append(
                (observed + ((rng.random((items, formats)) < chance) & unobserved).sum(0)) / items
            )
    drawn: Matrix = np.array(means)
    return drawn
