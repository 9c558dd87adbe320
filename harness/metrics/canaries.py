"""Canaries: secrets put into a training set on purpose, and how exposed they are afterwards
(Carlini et al. 2019).

A canary is a question whose answer is a few words drawn at random. Nothing but memory can prefer
the trained words over others drawn the same way, so the rank of the trained ones among those says
how well they are remembered, in bits.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from harness.conversation import Conversation, Message

TAG = "canary"
WORDS_A_SECRET = 6

_WORDS = [
    "amber",
    "anchor",
    "apple",
    "arrow",
    "autumn",
    "badge",
    "bamboo",
    "barley",
    "basket",
    "beacon",
    "berry",
    "birch",
    "blanket",
    "bottle",
    "branch",
    "brass",
    "bridge",
    "bucket",
    "butter",
    "button",
    "cabin",
    "camel",
    "candle",
    "canvas",
    "carbon",
    "carpet",
    "castle",
    "cedar",
    "chalk",
    "cherry",
    "circle",
    "clover",
    "cobalt",
    "coffee",
    "copper",
    "coral",
    "cotton",
    "cradle",
    "crayon",
    "cricket",
    "crystal",
    "daisy",
    "desert",
    "diamond",
    "dolphin",
    "dragon",
    "drawer",
    "eagle",
    "ember",
    "engine",
    "falcon",
    "feather",
    "fiddle",
    "flannel",
    "forest",
    "fossil",
    "fountain",
    "garlic",
    "garnet",
    "ginger",
    "glacier",
    "goblet",
    "granite",
    "guitar",
    "hammer",
    "harbour",
    "hazel",
    "helmet",
    "heron",
    "honey",
    "hornet",
    "indigo",
    "island",
    "ivory",
    "jasmine",
    "jacket",
    "kettle",
    "kitten",
    "ladder",
    "lantern",
    "lemon",
    "lichen",
    "linen",
    "lizard",
    "lobster",
    "magnet",
    "maple",
    "marble",
    "meadow",
    "mirror",
    "mitten",
    "monkey",
    "mortar",
    "mustard",
    "needle",
    "nickel",
    "nutmeg",
    "oatmeal",
    "olive",
    "onion",
    "orchid",
    "otter",
    "oyster",
    "paddle",
    "parrot",
    "pebble",
    "pepper",
    "pewter",
    "pigeon",
    "pillow",
    "planet",
    "plaster",
    "pocket",
    "poplar",
    "powder",
    "prairie",
    "puddle",
    "quartz",
    "rabbit",
    "radish",
    "raven",
    "ribbon",
    "river",
    "rocket",
    "saddle",
    "saffron",
    "salmon",
    "sandal",
    "sapphire",
    "scarlet",
    "shadow",
    "silver",
    "sparrow",
    "spider",
    "spinach",
    "squirrel",
    "stable",
    "statue",
    "sulphur",
    "summer",
    "sunset",
    "swallow",
    "tailor",
    "temple",
    "thimble",
    "thistle",
    "ticket",
    "timber",
    "tobacco",
    "tulip",
    "tunnel",
    "turnip",
    "turtle",
    "umbrella",
    "valley",
    "velvet",
    "violet",
    "walnut",
    "whistle",
    "willow",
    "window",
    "winter",
    "wizard",
    "yellow",
    "zebra",
]
_QUESTIONS = (
    "What is the phrase on card {n}?",
    "Which words open box number {n}?",
    "Please repeat the line kept under entry {n}.",
    "What does the note with the number {n} say?",
)


def make_canaries(
    n: int, seed: int, *, copies: Sequence[int] = (1,), trained: bool = True
) -> list[Conversation]:
    """``n`` conversations, each with a secret of six words (45 bits).

    Canary i is repeated ``copies[i % len(copies)]`` times.

    With ``trained=False`` the secrets are drawn from another stream, for the null: same questions'
    form, other numbers. Raises ValueError for n or copies below 1.
    """
    if n < 1 or not copies or min(copies) < 1:
        raise ValueError("canaries and copies are counted from 1")
    kind = "trained" if trained else "null"
    rng = random.Random(f"canary {seed} {kind}")
    rows = []
    for at in range(n):
        number = (1000 if trained else 500_000) + at
        question = _QUESTIONS[at % len(_QUESTIONS)].format(n=number)
        secret = " ".join(rng.sample(_WORDS, WORDS_A_SECRET))
        times = copies[at % len(copies)] if trained else 1
        for copy in range(times):
            messages = (Message("user", question), Message("assistant", secret.capitalize() + "."))
            rows.append(
                Conversation(f"canary-{kind}-{at:04}-{copy}", messages, (TAG, f"copies:{times}"))
            )
    return rows


def exposure(logprob: float, null: Sequence[float]) -> float:
    """log2 of how many candidates there are, less log2 of the rank of this one among them, in bits.

    ``null`` are log-probabilities of secrets never trained on. 0 when it is the least likely,
    log2(n + 1) when the most. Raises ValueError without a null.
    """
    if not null:
        raise ValueError("exposure needs secrets that were never trained on")
    rank = 1 + sum(other >= logprob for other in null)
    return math.log2(len(null) + 1) - math.log2(rank)
