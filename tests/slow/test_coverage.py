"""Every 95 % interval holds the truth in 93 % of simulated sets or more, or is withheld.

With 2000 sets an interval of exactly 93 % covers at least 91.9 % in 97 of 100 simulations. Above
97.5 % only where counts are too few to be finer.
"""

import pytest

from benchmarks.coverage import PAGE, SIZES, populations, simulate
from benchmarks.page_table import read_table

pytestmark = pytest.mark.slow

POPULATIONS = {population.name: population for population in populations()}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", POPULATIONS)
def test_coverage(name, n):
    assert simulate(POPULATIONS[name], n, seed=1).covered >= 0.919


def test_the_page_shows_every_population():
    table = read_table(PAGE, "coverage")
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]] == (
        list(POPULATIONS)
    )
