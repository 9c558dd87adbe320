"""The Rasch model against statsmodels and scipy, and what it recovers from a tenth of the cells."""

import numpy as np
import pytest

from harness.stats.rasch import draw_format_means, fit_rasch, item_deviation
from harness.stats.sampling_design import balanced_sample

QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


def grid(items, formats, deviation, seed, item=1.5):
    rng = np.random.default_rng(seed)
    logits = 0.5 + rng.normal(0, item, (items, 1)) + rng.normal(0, deviation, (1, formats))
    return (rng.random((items, formats)) < 1 / (1 + np.exp(-logits))).astype(float)


def hidden(whole, share, seed):
    part = np.full(whole.shape, np.nan)
    for item, column in balanced_sample(
        *whole.shape, round(share * whole.size), np.random.default_rng(seed)
    ):
        part[item, column] = whole[item, column]
    return part


def design(table):
    """Rows of 1, the item's indicator and the format's, per observed cell; and the cells."""
    rows, columns = np.nonzero(~np.isnan(table))
    matrix = np.zeros((len(rows), 1 + sum(table.shape)))
    matrix[:, 0] = matrix[np.arange(len(rows)), 1 + rows] = matrix[
        np.arange(len(rows)), 1 + table.shape[0] + columns
    ] = 1
    return matrix, table[rows, columns]


def test_the_fit_equals_a_penalised_regression_of_statsmodels():
    """GLM.fit_regularized minimises −loglik ∕ n + Σ alpha·w² ∕ 2; ours are n times that."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    table = hidden(grid(15, 8, 0.7, 1), 0.6, 1)
    matrix, right = design(table)
    alpha = np.concatenate([[0.01], np.full(15, 1.2**-2), np.full(8, 0.6**-2)]) / len(right)
    theirs = GLM(right, matrix, family=Binomial()).fit_regularized(
        alpha=alpha, L1_wt=0.0, maxiter=2000, cnvrg_tol=1e-12
    )
    assert fit_rasch(table, 1.2, 0.6).effects == pytest.approx(
        theirs.params, abs=1e-3
    )  # coordinate descent stops early


def test_the_evidence_is_the_laplace_approximation():
    """Against scipy's minimum of the same density and its numerical curvature."""
    from scipy.optimize import approx_fprime, minimize

    table = hidden(grid(6, 4, 0.5, 2), 0.7, 2)
    matrix, right = design(table)
    precision = np.concatenate([[0.01], np.ones(6), np.full(4, 0.5**-2)])

    def slope(x):
        return matrix.T @ (1 / (1 + np.exp(-matrix @ x)) - right) + precision * x

    def cost(x):
        return (np.logaddexp(0, matrix @ x) - right * (matrix @ x)).sum() + 0.5 * (
            precision * x**2
        ).sum()

    found = minimize(cost, np.zeros(11), jac=slope, method="BFGS", options={"gtol": 1e-8})
    curvature = approx_fprime(found.x, slope, 1e-6)
    evidence = -found.fun + 0.5 * np.log(precision).sum() - 0.5 * np.linalg.slogdet(curvature)[1]
    ours = fit_rasch(table, 1.0, 0.5)
    assert ours.effects == pytest.approx(found.x, abs=1e-5) and ours.log_evidence == pytest.approx(
        evidence, abs=1e-3
    )
    assert ours.hessian == pytest.approx(curvature, abs=1e-3)
    assert np.cov(ours.draw(np.random.default_rng(0), 40_000).T) == pytest.approx(
        np.linalg.inv(ours.hessian), abs=0.15
    )


def test_the_spread_of_items_is_found():
    found = [
        item_deviation(hidden(grid(80, 60, 0.5, seed, item=1.5), 0.2, seed)) for seed in range(5)
    ]
    assert np.mean(found) == pytest.approx(1.5, abs=0.2)


def test_a_whole_table_is_given_back_exactly():
    whole = grid(12, 5, 1.0, 3)
    assert draw_format_means(whole, np.random.default_rng(0), 10) == pytest.approx(
        np.tile(whole.mean(0), (10, 1))
    )


def test_a_table_that_is_right_everywhere_or_was_not_seen():
    part = np.ones((30, 10))
    part[5:, 3:] = np.nan
    part[7] = np.nan
    drawn = draw_format_means(part, np.random.default_rng(0), 200)
    assert drawn.shape == (200, 10) and drawn.mean() > 0.9 and np.isfinite(drawn).all()
    with pytest.raises(ValueError, match="no cell"):
        draw_format_means(np.full((3, 3), np.nan), np.random.default_rng(0))


@pytest.mark.parametrize("deviation", [0.2, 0.6])
def test_a_tenth_of_the_cells_recovers_the_quantiles_over_formats(deviation):
    """100 items × 80 formats, 12 tables: errors of a few points, and intervals that cover."""
    ours, naive, covered = [], [], []
    for seed in range(12):
        whole = grid(100, 80, deviation, seed)
        part = hidden(whole, 0.1, seed)
        truth = np.quantile(whole.mean(0), QUANTILES)
        drawn = np.quantile(
            draw_format_means(part, np.random.default_rng(seed), 400), QUANTILES, axis=1
        )
        low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
        ours.append(np.abs(drawn.mean(1) - truth))
        naive.append(np.abs(np.quantile(np.nanmean(part, 0), QUANTILES) - truth))
        covered.append((low <= truth) & (truth <= high))
    assert np.mean(ours) < 0.03 and np.mean(ours) < 0.4 * np.mean(naive)
    assert np.mean(covered) >= 0.87  # 60 quantiles, five of one table going together


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [0.2, 0.6])
def test_the_quantiles_intervals_cover(deviation):
    """500 simulated tables of 60 items × 50 formats of which a tenth is seen."""
    covered = []
    for seed in range(500):
        whole = grid(60, 50, deviation, seed)
        drawn = np.quantile(
            draw_format_means(hidden(whole, 0.1, seed), np.random.default_rng(seed), 400),
            QUANTILES,
            axis=1,
        )
        low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
        truth = np.quantile(whole.mean(0), QUANTILES)
        covered.append((low - 1e-9 <= truth) & (truth <= high + 1e-9))
    rates = np.mean(covered, 0)
    assert 0.93 <= rates.mean() <= 0.98 and rates.min() >= 0.91, rates
