"""No text breaks a measure: a score, or null with a reason, never an exception and never minutes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.metrics.every_measure import judge

#: What measures look for, and what has broken regular expressions before.
PIECES = [
    "<|im_start|>", "<|im_end|>", "### Response:", "User:", "Mira:", "[INST]", "```", "$$", "\\(", "\\[", "`", "://", "@", "<a", "{", '{"a":', "1e999", "-0", "NaN", "1,000",
    "the lamps were lit one by one ", "und dann kam die letzte Fähre an ", "然后渡船来了", "привет ", "مرحبا", "\u202e", "\u0301", "\ud800", "\x00", "\u2028", "ﬁ", "İ", "ẞ", "👩‍👩‍👧",
    "As an AI language model, ", "Certainly! ", "I hope this helps", "\n", " ", "\t",
]  # fmt: skip
any_text = st.text(st.characters(), max_size=200) | st.lists(
    st.sampled_from(PIECES) | st.text(st.characters(), max_size=5), max_size=60
).map("".join)


@given(any_text, any_text)
def test_any_text(text: str, other: str) -> None:
    """``judge`` asserts what must hold of each metric."""
    judge(text, other)
