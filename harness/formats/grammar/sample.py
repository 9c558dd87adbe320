"""Sample the grammar: a seed gives any number of formats that nobody has trained on, in two styles.

*markdown* (harness.formats.grammar.markdown_style) varies headers and delimiters as FormatSpread
does; *tags* (harness.formats.grammar.tag_style) makes up control strings like those of chat models.

The symbols are cut in two halves. A *compositional* split draws training formats from one half and
test formats from the other, so that no delimiter or mark of a test format was trained in the same
style, and in markdown no role name either. A *random* split shares the symbols and keeps only the
combinations apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast, get_args

from harness.errors import HarnessError
from harness.formats.frontmatter import parse_format
from harness.formats.grammar.markdown_style import MarkdownSpec, draw_markdown
from harness.formats.grammar.symbols import Split
from harness.formats.grammar.tag_style import TagSpec, draw_tags
from harness.records import Format

Style = Literal["markdown", "tags"]
#: Draws one format of a style.
SAMPLERS: dict[Style, Callable[[random.Random, Split | None], MarkdownSpec | TagSpec]] = {
    "markdown": draw_markdown,
    "tags": draw_tags,
}


def sample(
    n: int,
    seed: int,
    split: Split | None = None,
    *,
    compositional: bool = True,
    style: Style = "markdown",
) -> list[Format]:
    """``n`` different formats, the same for the same arguments; a greater ``n`` only adds to them.

    ``split`` keeps to the training or the test half. Raises HarnessError when the grammar has fewer
    than ``n`` formats.
    """
    sources = sample_sources(n, seed, split, compositional=compositional, style=style)
    return [chat_format for chat_format, _ in sources]


def sample_sources(
    n: int,
    seed: int,
    split: Split | None = None,
    *,
    compositional: bool = True,
    style: Style = "markdown",
) -> list[tuple[Format, str]]:
    """As sample(), each format with the text of its file."""
    family = "-".join(filter(None, ("grammar", "" if style == "markdown" else style, split)))
    sampled: dict[str, tuple[Format, str]] = {}
    draw = random.Random(
        f"{seed}/{split}/{compositional}" + ("" if style == "markdown" else f"/{style}")
    )
    for _ in range(100 * n + 1000):
        if len(sampled) == n:
            return list(sampled.values())
        spec = SAMPLERS[style](draw, split if compositional else None)
        if spec.id not in sampled and (compositional or split in (None, random_split_of(spec))):
            sampled[spec.id] = to_format(spec, family), spec.source(family)
    raise HarnessError(f"the grammar gave only {len(sampled)} of {n} formats", hint="ask for fewer")


def sample_by_name(name: str) -> list[Format]:
    """The formats of ``grammar:N[:seed=S][:split=train|test][:style=tags][:random]``.

    Settings and ``--formats`` take such a name.
    """
    head, *parts = name.split(":")
    hint = "write grammar:200:seed=7:split=train, with :style=tags for control strings"
    if head != "grammar" or not parts or not parts[0].isdigit() or not int(parts[0]):
        raise HarnessError(f"invalid sample {name!r}: expected the number of formats", hint=hint)
    facts = dict(part.partition("=")[::2] for part in parts[1:])
    unknown = sorted(set(facts) - {"seed", "split", "style", "random"})
    split, style = facts.get("split"), facts.get("style", "markdown")
    if (
        unknown
        or not facts.get("seed", "0").isdigit()
        or split not in (None, *get_args(Split))
        or style not in SAMPLERS
    ):
        part = f": unknown part {unknown[0]!r}" if unknown else ""
        raise HarnessError(f"invalid sample {name!r}{part}", hint=hint)
    return sample(
        int(parts[0]),
        int(facts.get("seed", "0")),
        cast("Split | None", split),
        compositional="random" not in facts,
        style=style,
    )


def random_split_of(spec: MarkdownSpec | TagSpec) -> Split:
    """The half of a random split that a combination is in: one in five is for testing."""
    return "test" if int(spec.id[-6:], 16) % 5 == 0 else "train"


def to_format(spec: MarkdownSpec | TagSpec, family: str = "grammar") -> Format:
    """The choices as a format like any other."""
    return parse_format(spec.source(family), Path(f"{spec.id}.jinja"), trusted=True)
