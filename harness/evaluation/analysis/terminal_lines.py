"""What ``harness eval`` prints at its end: the verdicts, what was learnt or lost, and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from harness.evaluation.analysis.budget_report import budget_report
from harness.evaluation.analysis.recall_summary import recall_texts
from harness.evaluation.analysis.summary import drift_lines, forged_lines
from harness.evaluation.cases.case_files import kind_of
from harness.evaluation.results import Evaluation
from harness.metrics.registry import headline
from harness.records import Verdict
from harness.report.wording import MOST_LINES, group_names, summed_up, trained_text
from harness.run_file import trained_on
from harness.terminal import console

#: Words in the order of their lines, with their colours on a terminal.
COLOURS = {
    "broken": "bold red",
    "degraded": "bold yellow",
    "unclear": "bold cyan",
    "untestable": "bold",
    "works": "bold green",
}
_WORD, _INDENT = max(map(len, COLOURS)) + 2, 2


def verdict_sentences(evaluations: Sequence[Evaluation]) -> list[str]:
    """The sentences on language, forged turns and recall that are printed below the verdicts."""
    lines = [*drift_lines(evaluations)[:1], *forged_lines(evaluations)]
    return [*(line.text for line in lines), *recall_texts(evaluations)]


def print_verdicts(evaluations: Sequence[Evaluation], found: Sequence[Sequence[Verdict]]) -> None:
    """Print what was measured, a line or two for each verdict, and language, recall and budget.

    ``found`` are the verdicts of each evaluation: of one, or of one before and one after.
    """
    from rich.text import Text

    screen = console(soft_wrap=True)
    last = evaluations[-1]
    screen.print(header(last))
    if data := trained_text(*trained_on(last.adapter)):
        screen.print(data)
    screen.print()
    before = {one.format: one.word for one in found[0]}
    for word, text in verdict_block(found[-1], before):
        line = Text(" " * _INDENT)
        line.append(f"{word.upper():{_WORD}}", style=COLOURS.get(word, ""))
        screen.print(line.append(text))
    screen.print()
    for sentence in verdict_sentences(evaluations):
        screen.print(sentence)
    if last.first_look is not None:
        screen.print(last.first_look.text)
    for evaluation in evaluations:
        if (budget := budget_report(evaluation)) is not None:
            screen.print("\n".join(budget.text))


def header(evaluation: Evaluation) -> str:
    """``my-model with adapter runs/mine/adapter, bfloat16: 18 formats, 48 cases of each kind``."""
    facts = evaluation.fingerprint
    adapter = f" with adapter {evaluation.adapter}" if evaluation.adapter else ""
    stored = " ".join(filter(None, (facts.get("dtype"), facts.get("quantisation"))))
    sizes: Collection[int] = Counter(kind_of(case) for case in evaluation.cases).values()
    if (look := evaluation.first_look) is not None:
        sizes = look.asked.values()
    span = " to ".join(str(size) for size in sorted({min(sizes), max(sizes)})) if sizes else "no"
    formats = f"{len(evaluation.formats)} format{'s' * (len(evaluation.formats) != 1)}"
    native = f", its own is {evaluation.native}" if evaluation.native else ""
    return (
        f"{evaluation.model}{adapter}{', ' * bool(stored)}{stored}: "
        f"{formats}{native}; {span} cases of each kind"
    )


def verdict_block(found: Sequence[Verdict], before: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(word, text) for each line; the word is empty where a line continues the one above.

    Broken and degraded formats have a line each, with what to try below it, and the other words one
    line each. ``before`` are the words of an earlier evaluation: a word that changed says so.
    """
    width = max((len(one.format) for one in found if one.word in ("broken", "degraded")), default=0)
    for word in ("broken", "degraded"):
        these = [one for one in found if one.word == word]
        for one in these[:MOST_LINES]:
            yield word, f"{one.format:{width}}  {one.reason}{_was(one, before)}"
            if one.remedy:
                yield "", f"{'':{width}}  try: {one.remedy}"
        if rest := [one.format for one in these[MOST_LINES:]]:
            yield word, f"{len(rest)} more: {', '.join(rest)}"
    for word in ("unclear", "untestable", "works"):
        these = [one for one in found if one.word == word]
        if these:
            names = ", ".join(f"{one.format}{_was(one, before)}" for one in these)
            yield word, f"{names}{summed_up(word, these)}"


def _was(one: Verdict, before: Mapping[str, str]) -> str:
    earlier = before.get(one.format, one.word)
    return f" (was {earlier})" if earlier != one.word else ""


def print_table(evaluations: Sequence[Evaluation]) -> None:
    """Print each format and its group, with the headline metrics before → after."""
    from rich.table import Table

    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("format", no_wrap=True)
    table.add_column("group", no_wrap=True)
    metrics = headline(one.metric for e in evaluations for one in e.aggregates if one.n)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    last = evaluations[-1]
    groups = group_names(last.groups.values())
    for name in (one.id for one in last.formats):
        course = [_course(evaluations, name, metric) for metric in metrics]
        table.add_row(name, groups[last.groups[name]], *course)
    width = None if console().is_terminal else max(console().width, 132)
    console(width=width).print(table)


def _course(evaluations: Sequence[Evaluation], format_id: str, metric: str) -> str:
    means = [evaluation.aggregate(format_id, metric) for evaluation in evaluations]
    return " → ".join(
        "–" if mean is None or mean.mean is None else f"{mean.mean:.2f}" for mean in means
    )
