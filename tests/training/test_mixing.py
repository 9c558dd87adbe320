"""Mixing: balanced means balanced, weights are exact, and a draw depends only on its arguments."""

import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.training.data.mixing import RowSet, draw_formats, epoch_repeats

POLICIES = ("balanced", "uniform", "weighted", "all")
sizes = st.tuples(st.integers(1, 12), st.integers(1, 30), st.integers(0, 40), st.integers(0, 5))
weighted_sets = st.lists(st.tuples(st.integers(1, 12), st.floats(0.1, 5)), min_size=1, max_size=4)


def draw(policy, formats, rows, epoch, seed, weights=None):
    sets = [RowSet.weighted(range(rows))]
    return draw_formats(policy, weights or [1.0] * formats, sets, epoch, seed)


def make_sets(shapes):
    first, sets = 0, []
    for size, weight in shapes:
        sets.append(RowSet.weighted(range(first, first + size), weight))
        first += size
    return sets


@given(sizes)
def test_over_f_epochs_each_example_meets_each_format_once(size):
    formats, examples, block, seed = size
    pairs = [
        pair
        for turn in range(formats)
        for pair in draw("balanced", formats, examples, block * formats + turn, seed)
    ]
    assert Counter(pairs) == Counter((e, f) for e in range(examples) for f in range(formats))


@given(sizes)
def test_within_an_epoch_formats_are_used_equally_often(size):
    formats, examples, epoch, seed = size
    used = Counter(f for _, f in draw("balanced", formats, examples, epoch, seed))
    counts = [used[f] for f in range(formats)]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == examples


@given(sizes)
def test_draws_are_pure_and_shuffled_anew_each_epoch(size):
    formats, examples, epoch, seed = size
    for policy in POLICIES:
        assert draw(policy, formats, examples, epoch, seed) == draw(
            policy, formats, examples, epoch, seed
        )
    if examples > 8:
        assert [e for e, _ in draw("balanced", formats, examples, epoch, seed)] != [
            e for e, _ in draw("balanced", formats, examples, epoch + 1, seed)
        ]


def test_another_process_draws_the_same():
    """No hash() of a text, no global generator: what rank 1 draws is what rank 0 draws."""
    code = "from tests.training.test_mixing import *\nprint([draw(p, 5, 9, 3, 1, [1, 2, 3, 4, 5]) for p in POLICIES])"
    random.seed(1)
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] == f"{[draw(p, 5, 9, 3, 1, [1, 2, 3, 4, 5]) for p in POLICIES]}\n"


def test_all_meets_every_pair_in_every_epoch():
    assert sorted(draw("all", 3, 2, 5, 0)) == [(e, f) for e in range(2) for f in range(3)]


def test_weighted_draws_in_proportion_and_never_at_weight_0():
    used = Counter(
        f for epoch in range(200) for _, f in draw("weighted", 3, 20, epoch, 0, [3.0, 1.0, 0.0])
    )
    assert used[2] == 0
    assert used[0] / used[1] == pytest.approx(3, rel=0.15)  # 4000 draws: four standard errors


@given(weighted_sets, st.integers(0, 30), st.integers(0, 5))
def test_every_epoch_has_as_many_repeats_as_the_weights_say(shapes, epoch, seed):
    sets = make_sets(shapes)
    met = Counter(row for row, _ in epoch_repeats(sets, epoch, seed))
    for chosen in sets:
        assert (
            sum(met[row] for row in chosen.rows) == chosen.repeats == max(1, round(chosen.repeats))
        )


@given(weighted_sets, st.integers(1, 20), st.integers(0, 5))
def test_over_the_run_each_row_gets_its_share_to_within_one(shapes, epochs, seed):
    sets = make_sets(shapes)
    met = [repeat for epoch in range(epochs) for repeat in epoch_repeats(sets, epoch, seed)]
    count = Counter(row for row, _ in met)
    for chosen in sets:
        share = chosen.repeats * epochs / len(chosen.rows)
        assert all(abs(count[row] - share) < 1 for row in chosen.rows)
    for row, times in count.items():
        assert sorted(repeat for r, repeat in met if r == row) == list(range(times)), (
            "repeats are numbered without gaps"
        )


@given(weighted_sets, st.integers(1, 6), st.integers(0, 5))
def test_balanced_stays_balanced_for_each_row_of_a_weighted_set(shapes, formats, seed):
    """In any F repeats of a row that begin at a multiple of F it is used once in every format."""
    sets = make_sets(shapes)
    met: dict[int, Counter[int]] = {}
    epochs = 3 * formats
    for epoch in range(epochs):
        for row, at in draw_formats("balanced", [1.0] * formats, sets, epoch, seed):
            met.setdefault(row, Counter())[at] += 1
    for counts in met.values():
        numbers = [counts[at] for at in range(formats)]
        assert max(numbers) - min(numbers) <= 1
