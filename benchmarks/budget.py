"""What a tenth of the cells says about all of them: estimated quantiles over formats, and the best
and worst format found, against the full grid.

The grid is real: a model's choices on the shipped cases in formats drawn from the grammar, each
cell computed once through the store. Then, for many seeds, only a share of its cells is shown to
each estimator:

ours        balanced sample, Rasch model with precisions by marginal likelihood, unseen cells drawn (harness.stats.rasch.draw_format_means)
ridge       the same sample and model with one fixed penalty (standard deviation 1), unseen cells at their expected value, as in
            PromptEval's plain estimator (Polo et al. 2024, eq. 3)
naive       each format's mean over the same cells
uniform     for the search: the same number of cells spread evenly, and the best and worst mean

Run: python benchmarks/budget.py [--model SmolLM2-135M-Instruct] [--formats grammar:100:seed=5] [--cases FILE] [--out build/budget]
     python benchmarks/budget.py --grid build/budget/grid.npz     # analyse again
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from harness.evaluation.search.thompson import search
from harness.stats.rasch import draw_format_means, fit_rasch
from harness.stats.sampling_design import balanced_sample

QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
POINTS = 0.02


def make_grid(model: str, formats: str, cases: str, limit: int | None, out: Path) -> np.ndarray:
    """Right (1) or wrong (0), [cases, formats]; what the store in ``out`` has is not computed
    again.
    """
    from harness.evaluation.analysis.summary import matrix
    from harness.evaluation.run import run_job
    from harness.evaluation.settings import EvalJob

    evaluation = run_job(
        EvalJob(model=model, formats=(formats,), cases=(cases,), limit=limit, out=out)
    )
    drawn = [f.id for f in evaluation.formats if f.id.startswith("grammar-")]
    grid = matrix(evaluation, "choice")[
        :, [at for at, f in enumerate(evaluation.formats) if f.id in drawn]
    ]
    np.savez(
        out / "grid.npz", grid=grid, formats=drawn, cases=[case.id for case in evaluation.cases]
    )
    return grid


def seen_part(grid: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The grid with all but a balanced sample hidden."""
    part = np.full(grid.shape, np.nan)
    for item, format in balanced_sample(
        *grid.shape, round(share * grid.size), np.random.default_rng(seed)
    ):
        part[item, format] = grid[item, format]
    return part


def ridge(part: np.ndarray) -> np.ndarray:
    """Each format's accuracy by one fixed penalty, unseen cells at their expected value."""
    chance = 1 / (1 + np.exp(-fit_rasch(part, 1.0, 1.0).logits()))
    return np.where(np.isnan(part), chance, part).mean(0)


def quantile_errors(grid: np.ndarray, share: float, seeds: int) -> None:
    """Print the mean error of each quantile, how many lie within two points, and what the intervals
    cover.
    """
    truth = np.quantile(grid.mean(0), QUANTILES)
    errors: dict[str, list[np.ndarray]] = {"ours": [], "ridge": [], "naive": []}
    covered, mean_errors, widths = [], [], []
    for seed in range(seeds):
        part = seen_part(grid, share, seed)
        drawn = draw_format_means(part, np.random.default_rng(seed))
        quantiles = np.quantile(drawn, QUANTILES, axis=1)
        low, high = np.quantile(quantiles, [0.025, 0.975], axis=1)
        covered.append((low - 1e-9 <= truth) & (truth <= high + 1e-9))
        widths.append(high - low)
        errors["ours"].append(quantiles.mean(1) - truth)
        errors["ridge"].append(np.quantile(ridge(part), QUANTILES) - truth)
        errors["naive"].append(np.quantile(np.nanmean(part, 0), QUANTILES) - truth)
        mean_errors.append((drawn.mean() - grid.mean(), np.nanmean(part) - grid.mean()))
    print(
        f"\n{share:.0%} of the cells ({round(share * grid.size)}), {seeds} seeds; mean |error| in points at {', '.join(f'{q:.0%}' for q in QUANTILES)}"
    )
    for name, found in errors.items():
        sizes = np.abs(found)
        within = (sizes <= POINTS + 1e-9).mean()
        print(
            f"  {name:6} {'  '.join(f'{100 * e:5.1f}' for e in sizes.mean(0))}   all {100 * sizes.mean():.1f}, bias {'  '.join(f'{100 * e:+5.1f}' for e in np.mean(found, 0))}, within {100 * POINTS:.0f} points {within:.0%}"
        )
    print(
        f"  ours: 95 % intervals cover {np.mean(covered):.1%} ({' '.join(f'{c:.0%}' for c in np.mean(covered, 0))}), half-width {50 * np.mean(widths):.1f} points"
    )
    print(
        f"  mean over all cells: error ours {100 * np.abs(np.array(mean_errors)[:, 0]).mean():.2f}, naive {100 * np.abs(np.array(mean_errors)[:, 1]).mean():.2f} points"
    )


def search_regret(grid: np.ndarray, share: float, seeds: int) -> None:
    """Print how far the formats found are from the true best and worst, for the search and for even
    spending.
    """
    means = grid.mean(0)
    regrets: dict[str, list[tuple[float, float]]] = {"search": [], "uniform": []}
    errors = []
    places = [
        (str(item), str(format)) for item in range(grid.shape[0]) for format in range(grid.shape[1])
    ]

    def compute(asked: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
        return {place: float(grid[int(place[0]), int(place[1])]) for place in asked}

    cells = round(share * grid.size)
    for seed in range(seeds):
        best, worst = search(("best", "worst"), "choice", places, cells, compute, seed)
        regrets["search"].append(
            (means.max() - means[int(best.format)], means[int(worst.format)] - means.min())
        )
        errors += [
            (
                found.value - means[int(found.format)],
                found.searched_value - means[int(found.format)],
            )
            for found in (best, worst)
        ]
        naive = np.nanmean(seen_part(grid, share, seed), 0)
        regrets["uniform"].append(
            (means.max() - means[naive.argmax()], means[naive.argmin()] - means.min())
        )
    print(
        f"\nbest and worst at {share:.0%} of the cells, {seeds} seeds; points short of the true best, and of the true worst (any format at random: {100 * (means.max() - means.mean()):.1f}, {100 * (means.mean() - means.min()):.1f})"
    )
    for name, found in regrets.items():
        short = 100 * np.mean(found, 0)
        print(f"  {name:8} {short[0]:.1f}  {short[1]:.1f}")
    signed = np.array(errors).reshape(seeds, 2, 2)
    print(
        f"  accuracy reported for the best less its true one: {100 * signed[:, 0, 0].mean():+.1f} points on cases kept for it, {100 * signed[:, 0, 1].mean():+.1f} on those searched on"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--formats", default="grammar:100:seed=5")
    parser.add_argument("--cases", default="eval/cases/choice.jsonl")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path("build/budget"))
    parser.add_argument("--grid", type=Path, help="a grid.npz that was made before")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.05, 0.1, 0.2])
    options = parser.parse_args()
    grid = (
        np.load(options.grid)["grid"]
        if options.grid
        else make_grid(options.model, options.formats, options.cases, options.limit, options.out)
    )
    means = grid.mean(0)
    print(
        f"grid: {grid.shape[0]} cases × {grid.shape[1]} formats; accuracy mean {means.mean():.3f}, over formats {', '.join(f'{q:.0%} {v:.3f}' for q, v in zip(QUANTILES, np.quantile(means, QUANTILES), strict=True))}"
    )
    for share in options.shares:
        quantile_errors(grid, share, options.seeds)
    for share in options.shares:
        search_regret(grid, share, options.seeds)


if __name__ == "__main__":
    main()
