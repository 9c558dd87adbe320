"""A gate's run in words: each verdict, the summary, and the command to run next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.gate.run_gate import GateResult, suggested_baseline
from harness.gate.verdicts import severity
from harness.metrics.registry import lower_is_better
from harness.records import GateCheck, Outcome
from harness.report.wording import compact, signed
from harness.stats import minimum_detectable_effect
from harness.terminal import visible

_SHOWN = 8


def describe(verdict: GateCheck) -> str:
    """Two lines: the change beside what is allowed, and the case to look at or the reason."""
    second = (
        f"worst case: {verdict.worst_case}" if verdict.worst_case else "no single case is worse"
    )
    return visible(f"{headline(verdict)}\n{f'why: {verdict.why}' if verdict.why else second}")


def headline(verdict: GateCheck) -> str:
    """``alpaca-newline · stopped: .98 → .71 (−.27, allowed −.05, n 80, p .0003)``."""
    was, now = verdict.baseline, verdict.current
    place = f"{verdict.format} · {verdict.metric}: {'' if was is None else f'{compact(was)} → '}"
    if now is None:
        return f"{place}not scored"
    place += compact(now)
    lower = lower_is_better(verdict.metric)
    if was is None or verdict.delta is None:
        limit = f"at {'most' if lower else 'least'} {compact(verdict.allowed)}, "
        return f"{place} ({'' if verdict.outcome == 'new' else limit}n {verdict.n})"
    if verdict.outcome == "missing":
        return f"{place} (cannot be compared, n {verdict.n})"
    if verdict.outcome == "stale":
        return f"{place} (stale, n {verdict.n})"
    allowed = signed(verdict.allowed if lower else -verdict.allowed)
    p = f", p {p_value(verdict.p)}" if verdict.p is not None else ""
    return f"{place} ({signed(verdict.delta)}, allowed {allowed}, n {verdict.n}{p})"


def p_value(p: float) -> str:
    """Four decimals, or ``< .0001``."""
    return "< .0001" if p < 0.0001 else f"{p:.4f}".removeprefix("0")


def github_lines(verdicts: Iterable[GateCheck]) -> list[str]:
    """The failures as GitHub Actions reads them from a log, to show beside the pull request."""
    return [
        f"::error title={_escaped(f'gate {v.format} {v.metric}', title=True)}"
        f"::{_escaped(describe(v))}"
        for v in verdicts
        if v.failed
    ]


def _escaped(text: str, title: bool = False) -> str:
    """Encode what GitHub's workflow commands require: %, line ends and, in a title, : and ,."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if title else text


def summary_lines(result: GateResult) -> list[str]:
    """Counts, what broke and what changed, the baseline, notes; last the command to run next."""
    verdicts = result.verdicts
    lines = [
        f"{result.options.model_name}: {outcome_counts(verdicts)}",
        *_failures([verdict for verdict in verdicts if verdict.failed]),
        *_changes(verdicts),
        _baseline(result),
        *_notes(result),
        f"next: {_next(result)}",
    ]
    return list(map(visible, lines))


def outcome_counts(verdicts: Sequence[GateCheck]) -> str:
    """``1 regressed, 2 improved, 60 ok``: the worst first, and only what there is."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    outcomes: tuple[Outcome, ...] = ("regressed", "missing", "stale", "improved", "new", "ok")
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in outcomes if counts[outcome])


def _failures(failed: Sequence[GateCheck]) -> list[str]:
    """One line names the formats that broke, then one line each has their metrics, worst first."""
    if not failed:
        return []
    by_format: dict[str, list[str]] = {}
    for v in sorted(failed, key=lambda v: (-severity(v), v.format, v.metric)):
        by_format.setdefault(v.format, []).append(_short(v))
    lines = [f"formats that broke: {', '.join(by_format)}"]
    return lines + [f"  {format_id}: {_list(metrics)}" for format_id, metrics in by_format.items()]


def _short(verdict: GateCheck) -> str:
    if verdict.outcome in ("missing", "stale"):
        return f"{verdict.metric} {verdict.outcome}"
    if verdict.delta is None:
        return f"{verdict.metric} {compact(verdict.current)}"
    return f"{verdict.metric} {signed(verdict.delta)}"


def _changes(verdicts: Sequence[GateCheck]) -> list[str]:
    improved = [f"{v.format} {_short(v)}" for v in verdicts if v.outcome == "improved"]
    lines = [f"improved: {_list(improved)}"] if improved else []
    return lines + [f"  {headline(v)} {v.why}" for v in verdicts if v.outcome == "new" and v.why]


def _baseline(result: GateResult) -> str:
    options, before = result.options, result.before
    line = f"baseline: {options.baseline}"
    if options.baseline is None:
        limits = f"the absolute limits of {options.thresholds}"
        return f"baseline: none, judged by {'--require' if options.require else limits}"
    if options.add_new:
        added = sum(verdict.outcome == "new" for verdict in result.verdicts)
        return f"{line} ({added} new entries added, the others left as they were)"
    if options.update and not result.current.entries:
        return f"{line} (left as it was: nothing was scored)"
    if options.update:
        count = len(result.current.entries)
        return f"{line} ({'updated' if before else 'new'}, {count} entries)"
    return line + (f" (made with {before.name})" if before and before.name else "")


def _notes(result: GateResult) -> list[str]:
    """What to know before trusting the verdicts: another environment, few cases, the power."""
    before, current = result.before, result.current
    if before is None or result.options.update:
        return []
    lines = []
    was, now = before.environment, current.environment
    changed = [
        f"{key} {was.get(key)} → {now.get(key)}"
        for key in sorted({*was, *now})
        if was.get(key) != now.get(key)
    ]
    if changed:
        lines.append(f"note: not the baseline's environment: {', '.join(changed)}")
    few = []
    for verdict in result.verdicts:
        entry = before.entry(verdict.format, verdict.metric)
        compared = verdict.outcome in ("ok", "improved", "regressed")
        if entry and compared and 0 < verdict.n < entry.n / 2:
            few.append(f"{verdict.format} {verdict.metric} {verdict.n} of {entry.n}")
    if few:
        lines.append(f"note: compared on less than half of the baseline's cases: {_list(few)}")
    if paired := [verdict.n for verdict in result.verdicts if verdict.p is not None]:
        lines.append(_power(min(paired), max(paired)))
    return lines


def _power(fewest: int, most: int) -> str:
    """What this many cases can find at all. A pass means no more than that."""
    points = round(100 * minimum_detectable_effect(fewest))
    cases = f"{fewest} cases" if fewest == most else f"{fewest} to {most} cases"
    effect = (
        f"a loss {points} points beyond its margin is found four times in five, in a single format"
        if points < 100
        else "no loss can be found"
    )
    return f"power: {cases} a metric; with {fewest}, {effect}"


def _next(result: GateResult) -> str:
    options, before, current = result.options, result.before, result.current
    if options.baseline is None:
        command = options.command(baseline=suggested_baseline(options), update=True)
        return f"{command}  (keep these numbers as the baseline)"
    if not current.entries:
        return f"{options.command(baseline=options.baseline)}  (after mending what is named above)"
    if options.update:
        return f"{options.command(baseline=options.baseline)}  (compares with it)"
    # A baseline is written whole, so the formats that this run left out have to be in it.
    left_out = before is not None and bool(set(before.formats) - set(current.formats))
    command = options.command(baseline=options.baseline, update=True, every_format=left_out)
    failed = any(verdict.failed for verdict in result.verdicts)
    reason = "only if you accept the losses" if failed else "to keep these numbers as the baseline"
    return f"{command}  ({reason})"


def _list(words: Sequence[str]) -> str:
    more = f", … {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
