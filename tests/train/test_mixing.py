"""Format draws: balanced means balanced, and a draw depends on nothing but its arguments."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from harness.train.mixing import draw_formats

sizes = st.tuples(st.integers(1, 12), st.integers(1, 30), st.integers(0, 40), st.integers(0, 5))


@given(sizes)
def test_over_f_epochs_each_example_meets_each_format_once(size):
    formats, examples, block, seed = size
    pairs = [pair for turn in range(formats) for pair in draw_formats("balanced", formats, examples, block * formats + turn, seed)]
    assert Counter(pairs) == Counter((e, f) for e in range(examples) for f in range(formats))


@given(sizes)
def test_within_an_epoch_formats_are_used_equally_often(size):
    formats, examples, epoch, seed = size
    used = Counter(f for _, f in draw_formats("balanced", formats, examples, epoch, seed))
    counts = [used[f] for f in range(formats)]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == examples


@given(sizes)
def test_draws_are_pure_and_shuffled_anew_each_epoch(size):
    formats, examples, epoch, seed = size
    for policy in ("balanced", "uniform", "all"):
        assert draw_formats(policy, formats, examples, epoch, seed) == draw_formats(policy, formats, examples, epoch, seed)
    if examples > 8:
        assert [e for e, _ in draw_formats("balanced", formats, examples, epoch, seed)] != [
            e for e, _ in draw_formats("balanced", formats, examples, epoch + 1, seed)
        ]


def test_all_meets_every_pair_in_every_epoch():
    assert sorted(draw_formats("all", 3, 2, 5, 0)) == [(e, f) for e in range(2) for f in range(3)]
