"""Error rates of the words over 1000 simulated evaluations: at most 5 %, within their noise."""

import pytest

from benchmarks.coverage import SIZES
from benchmarks.page_table import read_table
from benchmarks.words import PAGE, models, rates

pytestmark = pytest.mark.slow

RUNS = 1000
MOST = 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5
MODELS = list(models())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_error_rates(model, n):
    found = rates(model, n, RUNS, seed=1)
    wrong = found["degraded"] + found["broken"] if "good" in model.name else found["works"]
    assert wrong / RUNS <= MOST


def test_the_page_shows_every_model():
    table = read_table(PAGE, "words")
    names = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    assert names == [model.name for model in MODELS]
