"""Texts that no measure may stumble over."""

import pytest

MEGABYTE = 1_000_000

HOSTILE = {
    "empty": "",
    "spaces": " " * MEGABYTE,
    "lines": "\n" * MEGABYTE,
    "control": "".join(map(chr, range(32))) * 500,
    "surrogates": "\ud800\udc00x\udfff " * 500,
    "one-letter": "a" * MEGABYTE,
    "one-word": "the " * (MEGABYTE // 4),
    "two-words": "I am " * (MEGABYTE // 10),
    "accents": "a" + "\u0301\u0327" * 200_000,
    "right-to-left": "\u202eשלום עולם، مرحبا " * 5_000,
    "emoji": "👩‍👩‍👧‍👦😀🏳️‍🌈" * 20_000,
    "chinese": "中文" * 200_000,
    "braces": "{" * MEGABYTE,
    "nested": '{"a":' * 200_000,
    "backticks": "`" * MEGABYTE,
    "fences": "```\n" * 100_000,
    "formulas": "\\(\\[$$" * 100_000,
    "angles": "<a" * 300_000,
    "hyphens": "a-" * 300_000,
    "commas": "1," * 300_000,
    "controls": "<|im_start|>user\n" * 30_000,
    "headers": "User:\n### Response:\n" * 30_000,
}


@pytest.fixture(params=HOSTILE, ids=list(HOSTILE))
def hostile(request: pytest.FixtureRequest) -> str:
    """Each hostile text in turn."""
    return HOSTILE[request.param]
