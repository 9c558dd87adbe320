"""A verdict in words: two lines for a failure, one for a list.

The end of a gate's run in words: what broke, worst first, and what to do next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.gate.run_gate import GateResult, suggested_baseline
from harness.gate.thresholds import lower_is_better
from harness.gate.verdicts import loss
from harness.records import Outcome, Verdict
from harness.report.wording import compact, signed
from harness.stats import minimum_detectable_effect


def describe(verdict: Verdict) -> str:
    """Two lines: what changed against what is allowed, and the case to look at or the reason."""
    return f"{headline(verdict)}\n{_second(verdict)}"


def github_lines(verdicts: Iterable[Verdict]) -> list[str]:
    """The failures as GitHub Actions reads them from a log: shown beside the pull request, without a file or line of their own."""
    return [
        f"::error title=gate {_escaped(f'{v.format} {v.metric}', title=True)}::{_escaped(describe(v))}"
        for v in verdicts
        if v.failed
    ]


def _escaped(text: str, title: bool = False) -> str:
    """As the workflow commands of GitHub want it: percent, line ends and, in a title, colons and commas are encoded."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if title else text


def headline(verdict: Verdict) -> str:
    """``alpaca-newline · stopped: .98 → .71 (−.27, allowed −.05, n 80, p .0003)``."""
    place = f"{verdict.format} · {verdict.metric}: "
    if verdict.current is None:
        return place + (
            f"{compact(verdict.baseline)} → not scored"
            if verdict.baseline is not None
            else "not scored"
        )
    if verdict.baseline is None:
        return place + compact(verdict.current) + f" ({_unpaired(verdict)}n {verdict.n})"
    change = f"{compact(verdict.baseline)} → {compact(verdict.current)}"
    if verdict.outcome in ("stale", "missing") or verdict.delta is None:
        return (
            place
            + f"{change} ({'cannot be compared' if verdict.outcome == 'missing' else verdict.outcome}, n {verdict.n})"
        )
    allowed = signed(verdict.allowed if lower_is_better(verdict.metric) else -verdict.allowed)
    p = f", p {p_value(verdict.p)}" if verdict.p is not None else ""
    return place + f"{change} ({signed(verdict.delta)}, allowed {allowed}, n {verdict.n}{p})"


def _unpaired(verdict: Verdict) -> str:
    """The limit of an absolute check; a new cell has none."""
    if verdict.outcome == "new":
        return ""
    return (
        f"at {'most' if lower_is_better(verdict.metric) else 'least'} {compact(verdict.allowed)}, "
    )


def _second(verdict: Verdict) -> str:
    if verdict.why:
        return f"why: {verdict.why}"
    return f"worst case: {verdict.worst_case}" if verdict.worst_case else "no single case is worse"


def p_value(p: float) -> str:
    """Four decimals; below them only that it is below."""
    return "< .0001" if p < 0.0001 else f"{p:.4f}".removeprefix("0")


_SHOWN = 8


def summary_lines(result: GateResult) -> list[str]:
    """Counts, what broke and what changed, the baseline, notes, and the next command in the last line."""
    verdicts = result.verdicts
    return [
        f"{judgement.options.model_name}: {_counts(verdicts)}",
        *_failures([verdict for verdict in verdicts if verdict.failed]),
        *_changes(verdicts),
        *_baseline(result),
        *_notes(result),
        f"next: {_next(judgement)}",
    ]


def _counts(verdicts: Sequence[Verdict]) -> str:
    found = Counter(verdict.outcome for verdict in verdicts)
    outcomes: tuple[Outcome, ...] = ("regressed", "missing", "stale", "improved", "new", "ok")
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in outcomes if found[outcome])


def _failures(failed: Sequence[Verdict]) -> list[str]:
    """The formats that broke in one line, then one line for each with its measures, worst first."""
    if not failed:
        return []
    by_format: dict[str, list[Verdict]] = {}
    for verdict in sorted(
        failed, key=lambda verdict: (-loss(verdict), verdict.format, verdict.metric)
    ):
        by_format.setdefault(verdict.format, []).append(verdict)
    lines = [f"formats that broke: {', '.join(by_format)}"]
    return lines + [
        f"  {format}: {_list([_short(verdict) for verdict in found])}"
        for format, found in by_format.items()
    ]


def _short(verdict: Verdict) -> str:
    if verdict.outcome in ("missing", "stale"):
        return f"{verdict.metric} {verdict.outcome}"
    if verdict.delta is None:
        return f"{verdict.metric} {compact(verdict.current)}"
    return f"{verdict.metric} {signed(verdict.delta)}"


def _changes(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    if improved := [verdict for verdict in verdicts if verdict.outcome == "improved"]:
        lines.append(
            "improved: " + _list([f"{verdict.format} {_short(verdict)}" for verdict in improved])
        )
    for verdict in verdicts:
        if verdict.outcome == "new" and verdict.why:
            lines.append(f"  {headline(verdict)} {verdict.why}")
    return lines


def _baseline(result: GateResult) -> list[str]:
    options, before = result.options, result.before
    if options.baseline is None:
        return [
            f"baseline: none, judged by {'what --require demands' if options.require else f'the absolute limits of {options.thresholds}'}"
        ]
    if options.add_new:
        added = sum(verdict.outcome == "new" for verdict in result.verdicts)
        return [
            f"baseline: {options.baseline} ({added} new cells added, the others left as they were)"
        ]
    if options.update:
        if not result.current.cells:
            return [f"baseline: {options.baseline} (left as it was: nothing was scored)"]
        return [
            f"baseline: {options.baseline} ({'updated' if before else 'new'}, {len(judgement.current.cells)} cells)"
        ]
    return [
        f"baseline: {options.baseline}"
        + (f" (made with {before.name})" if before and before.name else "")
    ]


def _notes(result: GateResult) -> list[str]:
    """What a reader must know to trust the verdicts: another environment, and thin comparisons."""
    before, current = result.before, result.current
    if before is None or result.options.update:
        return []
    lines = []
    was, now = before.environment, current.environment
    other = [
        f"{key} {was.get(key)} → {now.get(key)}"
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key)
    ]
    if other:
        lines.append(f"note: not the baseline's environment: {', '.join(other)}")
    thin = []
    for verdict in result.verdicts:
        cell = before.cell(verdict.format, verdict.metric)
        if (
            cell
            and 0 < verdict.n < cell.n / 2
            and verdict.outcome in ("ok", "improved", "regressed")
        ):
            thin.append(f"{verdict.format} {verdict.metric} {verdict.n} of {cell.n}")
    if thin:
        lines.append(f"note: compared on less than half of the baseline's cases: {_list(thin)}")
    if paired := [verdict.n for verdict in result.verdicts if verdict.p is not None]:
        lines.append(_power(min(paired), max(paired)))
    return lines


def _power(least: int, most: int) -> str:
    """What this many cases can see at all. A pass means no more than that."""
    points = round(100 * minimum_detectable_effect(least))
    cases = f"{least} cases" if least == most else f"{least} to {most} cases"
    seen = (
        f"a loss some {points} points beyond its margin is seen four times in five, in a single format"
        if points < 100
        else "no loss can be seen"
    )
    return f"power: {cases} a measure; with {least}, {seen}"


def _next(result: GateResult) -> str:
    options, verdicts = result.options, result.verdicts
    if options.baseline is None:
        return (
            options.command(baseline=suggested_baseline(options), update=True)
            + "  (keep these numbers as the baseline)"
        )
    if options.update and result.current.cells:
        return options.command(baseline=options.baseline) + "  (compares with it)"
    if not result.current.cells:
        return options.command(baseline=options.baseline) + "  (after mending what is named above)"
    # A baseline is written whole, so the formats that this run left out have to be in it.
    left_out = result.before is not None and bool(
        set(result.before.formats) - set(result.current.formats)
    )
    command = options.command(baseline=options.baseline, update=True, every_format=left_out)
    return command + (
        "  (only if the losses are meant to stay)"
        if any(v.failed for v in verdicts)
        else "  (to keep these numbers as the baseline)"
    )


def _list(words: Sequence[str]) -> str:
    return ", ".join(words[:_SHOWN]) + (
        f", … {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    )
