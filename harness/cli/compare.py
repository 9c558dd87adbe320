"""harness compare: two evaluations case by case, as a table, JSON or a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from harness.cli.arguments import parse, split_commas
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError
from harness.terminal import console

if TYPE_CHECKING:
    from harness.api_results import ComparisonResult
    from harness.gate.baseline import Baseline
    from harness.records import GateCheck

_SHOWN = (
    "shown: groups, the native format and changes beyond a tolerance; --all-formats shows every "
    "format"
)
_WORTH_SHOWING = ("failed", "improved", "missing", "stale")


@dataclass(frozen=True)
class CompareOptions:
    before: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="BEFORE")]
    """Folder of a harness eval (with scores.json), or a gate's baseline."""
    after: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="AFTER")]
    """Another such folder or file, which is compared with BEFORE."""
    metric: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--only", "--measures"])] = ()
    """Compare only these metrics, separated by commas or spaces."""
    all_formats: bool = False
    """Show every format, not only the groups and the changes."""
    thresholds: str | None = None
    """TOML file with the loss of each metric that is accepted. Default: the shipped one."""
    html: str | None = None
    """Write a page with the differences and both runs' samples side by side to this file, and its
    JSON beside it."""
    json: bool = False
    """Print {"checks", "counts"} as JSON."""


def compare(args: list[str]) -> int:
    """Compare two evaluations case by case: adapters, checkpoints, quantisations or servers.

    Exit code 1: a loss that is real and at least the metric's tolerance.

    Example: harness compare build/eval/before build/eval/after
    """
    options = parse(CompareOptions, args, "compare", compare.__doc__)
    from harness import api
    from harness.gate.compare_runs import word_changes
    from harness.gate.messages import outcome_counts

    found = api.compare(
        options.before,
        options.after,
        metrics=split_commas(options.metric),
        thresholds=options.thresholds,
    )
    before, after, checks = found.before, found.after, found.checks
    pages = _write_page(options, before, after, checks) if options.html else []
    if options.json:
        _print_json(found)
    else:
        for name, was, now in word_changes(before, after):
            print(f"{name}: {was} → {now}")
        _print_table(after, checks, every=options.all_formats)
        labels = zip(_labels(options), (before.name, after.name), strict=True)
        named = [f"{label} ({name})" if name else label for label, name in labels]
        print(f"{' → '.join(named)}: {outcome_counts(checks)}")
        if not options.all_formats:
            print(_SHOWN)
        for path in pages:
            print(path)
    return EXIT_FINDINGS if found.lost else EXIT_OK


def _write_page(
    options: CompareOptions, before: Baseline, after: Baseline, checks: Sequence[GateCheck]
) -> list[Path]:
    from harness.gate.compare_runs import build_comparison
    from harness.report.write import write_comparison

    page = Path(options.html or "")
    if page.suffix not in (".html", ".htm"):
        raise HarnessError(
            f"invalid --html {options.html!r}: expected a file name that ends in .html"
        )
    document = build_comparison(
        before, after, checks, (Path(options.before), Path(options.after)), _labels(options)
    )
    return write_comparison(document, page)


def _labels(options: CompareOptions) -> tuple[str, str]:
    """The shortest ends of the two paths that differ; before and after for one path given twice."""
    from harness.evaluation.run import adapter_labels
    from harness.gate.baseline_file import SCORES_FILE

    names = [
        str(path.parent if path.name == SCORES_FILE else path)
        for path in map(Path, (options.before, options.after))
    ]
    first, second = adapter_labels(names) if names[0] != names[1] else ("before", "after")
    return first, second


def _print_json(found: ComparisonResult) -> None:
    from harness.gate.compare_runs import word_changes

    counts = Counter(check.outcome for check in found.checks)
    words = [
        {"format": name, "before": was, "after": now}
        for name, was, now in word_changes(found.before, found.after)
    ]
    checks = list(found.rows())
    print_json({"verdicts": words, "checks": checks, "counts": dict(sorted(counts.items()))})


def _print_table(after: Baseline, checks: Sequence[GateCheck], *, every: bool) -> None:
    """The groups' means and the changes, or every format; losses last, where they are seen."""
    from rich.table import Table

    from harness.gate.messages import is_drop, p_value
    from harness.report.wording import compact, signed

    shown = [
        v
        for v in checks
        if every
        or v.format.endswith(" formats")
        or v.outcome in _WORTH_SHOWING
        or is_drop(v)
        or v.format == after.native
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("format", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("before", "after", "change", "95 % interval", "n", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for v in sorted(shown, key=lambda v: (v.fails, v.format, v.metric)):
        between = " to ".join(map(signed, v.interval or ()))
        change = "" if v.delta is None else signed(v.delta)
        p = "" if v.p is None or v.p == 1.0 else p_value(v.p)
        outcome = "" if v.outcome == "passed" else ": ".join(filter(None, (v.outcome, v.why)))
        table.add_row(
            v.format,
            v.metric,
            compact(v.baseline),
            compact(v.current),
            change,
            between,
            str(v.n),
            p,
            outcome,
        )
    width = None if console().is_terminal else max(console().width, 132)
    console(width=width).print(table)
