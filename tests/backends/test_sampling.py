"""Samples follow the distribution of transformers' warpers, with noise of the row's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from harness.backends.sampling import Sampling, choose, likeliest, seed_of

GRID = 2000


class Even(Sampling):
    """Its noise goes evenly through [0, 1), so that frequencies are probabilities."""

    def noise(self, index):
        return (index + 0.5) / GRID


def warped(logits, temperature, top_p, top_k):
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    return scores.softmax(-1)


@pytest.mark.parametrize("size", [50, 700])
@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    [(1.0, 1.0, 0), (0.7, 0.9, 0), (1.5, 1.0, 7), (1.0, 0.6, 20), (3.0, 0.97, 0), (0.2, 0.05, 0)],
)
def test_frequencies_are_the_probabilities_that_generate_draws_from(
    size, temperature, top_p, top_k
):
    """The larger vocabulary is so flat that top_p needs more than the tokens sorted at first."""
    logits = torch.randn(1, size, generator=torch.Generator().manual_seed(size)) * (
        2.0 if size == 50 else 0.3
    )
    sampling = Even(temperature, top_p, top_k)
    drawn = [
        token
        for at in range(0, GRID, 200)
        for token in choose(logits.expand(200, size), [sampling] * 200, range(at, at + 200))
    ]
    frequencies = torch.bincount(torch.tensor(drawn), minlength=size) / GRID
    assert (frequencies - warped(logits, temperature, top_p, top_k)[0]).abs().max() <= 1.5 / GRID


def test_rows_of_different_settings_do_not_disturb_each_other():
    logits = torch.randn(4, 60, generator=torch.Generator().manual_seed(5))
    samplings = [None, Sampling(0.8, 0.9, 0, 3), Sampling(1.0, 1.0, 0, 4), Sampling(1.2, 1.0, 5, 9)]
    together = choose(logits, samplings, [0, 4, 2, 7])
    assert together[0] == int(logits[0].argmax())
    assert together == [
        choose(logits[[at]], [samplings[at]], [index])[0] for at, index in enumerate([0, 4, 2, 7])
    ]


@given(st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_noise_is_a_pure_function_within_bounds(seed, index):
    assert 0 <= Sampling(seed=seed).noise(index) < 1
    assert Sampling(seed=seed).noise(index) == Sampling(0.5, 0.5, 3, seed).noise(index)


def test_noise_is_even_over_seeds_and_tokens():
    values = torch.tensor(
        [[Sampling(seed=seed).noise(index) for index in range(60)] for seed in range(60)]
    )
    assert abs(values.mean() - 0.5) < 0.02 and abs((values < 0.25).float().mean() - 0.25) < 0.03
    assert (
        torch.corrcoef(torch.stack([values[:, :-1].flatten(), values[:, 1:].flatten()]))[0, 1].abs()
        < 0.06
    )


def test_a_seed_names_its_draw():
    assert (
        len({seed_of(0, case, fmt, draw) for case in "abc" for fmt in "xy" for draw in range(3)})
        == 18
    )


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="temperature > 0"):
        Sampling(**wrong)


@given(st.integers(1, 400), st.integers(1, 4), st.integers(0, 2**31), st.booleans())
def test_the_likeliest_is_the_first_of_the_highest(size, rows, seed, half):
    """Few different values, so that many are equal; vocabularies that blocks fit, and others."""
    logits = torch.randint(-3, 3, (rows, size), generator=torch.Generator().manual_seed(seed)).to(
        torch.bfloat16 if half else torch.float32
    )
    assert likeliest(logits) == [row.index(max(row)) for row in logits.tolist()]
