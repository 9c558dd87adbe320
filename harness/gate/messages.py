"""A gate's run in words: each check, the summary, and the command to run next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import get_args

from harness.gate.artefact import not_compared
from harness.gate.compare_baselines import severity
from harness.gate.run_gate import UPDATE, GateResult, suggested_baseline
from harness.gate.word_checks import VERDICT
from harness.metrics.registry import METRICS, lower_is_better
from harness.records import GateCheck, Outcome
from harness.report.wording import compact, signed, verdict_lines
from harness.terminal import visible

_SHOWN = 8
_MANY = 10_000
"""Above this many cases a number is no advice."""
WORST_FIRST: tuple[Outcome, ...] = (
    "failed",
    "missing",
    "stale",
    "inconclusive",
    "improved",
    "new",
    "passed",
)
assert set(WORST_FIRST) == set(get_args(Outcome))  # noqa: S101


def describe(check: GateCheck) -> str:
    """Two lines: the change beside what is allowed, and the case to look at or the reason."""
    if check.metric == VERDICT and check.outcome != "inconclusive":
        return visible("\n".join([headline(check), *_worst_case(check)]))
    second = f"worst case: {check.worst_case}" if check.worst_case else "no single case is worse"
    if check.outcome == "inconclusive":
        return visible(f"{headline(check)}\n{undecided(check)}")
    lost = _lost(check.metric) if check.outcome == "failed" else []
    why = f"why: {check.why}" if check.why else second
    return visible("\n".join([headline(check), *lost, why]))


def _lost(metric: str) -> list[str]:
    """What a loss of a metric means and what helps, where it says so."""
    facts = METRICS.get(metric)
    if facts is None or not facts.lost:
        return []
    return [f"{facts.lost}: {facts.remedy}" if facts.remedy else facts.lost]


def _worst_case(check: GateCheck) -> list[str]:
    return [f"worst case: {check.worst_case}"] if check.worst_case else []


def undecided(check: GateCheck) -> str:
    """How many cases would decide an inconclusive check, and the case to look at meanwhile."""
    if check.metric == VERDICT and is_drop(check):
        words = "inconclusive: each word is a test at 5 %, the metrics' checks decide"
    elif not check.needed:
        reason = check.why if check.metric != VERDICT else ""
        words = f"inconclusive: {reason or 'too few cases'}"
    elif check.needed > _MANY:
        words = f"inconclusive: more than {_MANY} cases would be needed"
    else:
        words = f"inconclusive: about {check.needed} cases would decide"
    return f"{words}; worst case: {check.worst_case}" if check.worst_case else words


def headline(check: GateCheck) -> str:
    """``alpaca-newline · stopped: .98 → .71 (−.27, tolerance −.02, n 80, p .0003)``."""
    was, now = check.baseline, check.current
    if check.metric == VERDICT:
        return f"{check.format} · {VERDICT}: {check.why}"
    place = f"{check.format} · {check.metric}: {'' if was is None else f'{compact(was)} → '}"
    if now is None:
        return f"{place}not scored"
    place += compact(now)
    lower = lower_is_better(check.metric)
    if was is None or check.delta is None:
        limit = f"at {'most' if lower else 'least'} {compact(check.allowed)}, "
        return f"{place} ({'' if check.outcome == 'new' else limit}n {check.n})"
    if check.outcome == "missing":
        return f"{place} (cannot be compared, n {check.n})"
    if check.outcome == "stale":
        return f"{place} (stale, n {check.n})"
    tolerance = signed(check.allowed if lower else -check.allowed)
    p = f", p {p_value(check.p)}" if check.p is not None else ""
    return f"{place} ({signed(check.delta)}, tolerance {tolerance}, n {check.n}{p})"


def p_value(p: float) -> str:
    """Three decimals below .1, two above, or ``< .0001``: never 0 and never 1.00 for less."""
    if p < 0.0001:
        return "< .0001"
    text = f"{p:.4f}" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return text.removeprefix("0")


def github_lines(checks: Iterable[GateCheck]) -> list[str]:
    """The failures as GitHub Actions reads them from a log, to show beside the pull request.

    Inconclusive drops are warnings.
    """
    kinds = [("error" if c.fails else "warning", c) for c in checks if c.fails or is_drop(c)]
    return [
        f"::{kind} title={_escaped(f'gate {c.format} {c.metric}', title=True)}"
        f"::{_escaped(describe(c))}"
        for kind, c in kinds
    ]


def _escaped(text: str, title: bool = False) -> str:
    """Encode what GitHub's workflow commands require: %, line ends and, in a title, : and ,."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if title else text


def is_drop(check: GateCheck) -> bool:
    """Whether an inconclusive check shows a loss of its tolerance or more, or is beyond a limit."""
    if check.outcome != "inconclusive":
        return False
    if check.metric == VERDICT:
        return " → " in check.why
    if check.current is None:
        return False  # not scored, so nothing is known to have dropped
    return severity(check) > 0 if check.delta is None else severity(check) >= 1 - 1e-9


def summary_lines(result: GateResult) -> list[str]:
    """Counts, what cannot be decided, what broke, what changed, notes; last what to do next."""
    checks = result.checks
    lines = [
        f"{result.options.model_name}: {outcome_counts(checks)}",
        *_inconclusive(checks),
        *_failures([check for check in checks if check.fails]),
        *(verdict_lines(result.verdicts) if result.before is None else []),
        *_changes(checks),
        *not_compared(checks, result.evaluation.no_loglikelihood),
        _baseline(result),
        *_notes(result),
        f"next: {next_step(result)}",
    ]
    return list(map(visible, lines))


def outcome_counts(checks: Sequence[GateCheck]) -> str:
    """``1 failed, 2 inconclusive, 60 passed``: the worst first, and only what there is."""
    counts = Counter(check.outcome for check in checks)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in WORST_FIRST if counts[outcome])


def _inconclusive(checks: Sequence[GateCheck]) -> list[str]:
    """The drops that these cases can neither confirm nor exclude, worst first; then the rest."""
    undecided_ones = [check for check in checks if check.outcome == "inconclusive"]
    drops = worst_first([check for check in undecided_ones if is_drop(check)])
    lines = []
    if drops:
        lines.append(f"INCONCLUSIVE: {len(drops)} drops that these cases cannot decide")
        lines += [f"  {headline(c)}; {undecided(c)}" for c in drops[:_SHOWN]]
        lines += [f"  … {len(drops) - _SHOWN} more"] if len(drops) > _SHOWN else []
    if others := len(undecided_ones) - len(drops):
        needed = [c.needed for c in undecided_ones if not is_drop(c) and 0 < c.needed <= _MANY]
        cases = (
            f"; half of them need about {sorted(needed)[len(needed) // 2]} cases" if needed else ""
        )
        lines.append(f"inconclusive: {others} checks without such a drop cannot exclude one{cases}")
    return lines


def worst_first(checks: Iterable[GateCheck]) -> list[GateCheck]:
    """Checks by what was lost in tolerances, most first."""
    return sorted(checks, key=lambda check: (-severity(check), check.format, check.metric))


def _failures(failed: Sequence[GateCheck]) -> list[str]:
    """Name the formats with failed checks, then the metrics of each on a line, worst first."""
    if not failed:
        return []
    by_format: dict[str, list[str]] = {}
    for check in worst_first(failed):
        by_format.setdefault(check.format, []).append(_short(check))
    lines = [f"formats with failed checks: {', '.join(by_format)}"]
    return lines + [f"  {format_id}: {_list(metrics)}" for format_id, metrics in by_format.items()]


def _short(check: GateCheck) -> str:
    if check.outcome in ("missing", "stale"):
        return f"{check.metric} {check.outcome}"
    if check.metric == VERDICT:
        return check.why.partition(":")[0]
    if check.delta is None:
        return f"{check.metric} {compact(check.current)}"
    return f"{check.metric} {signed(check.delta)}"


def _changes(checks: Sequence[GateCheck]) -> list[str]:
    improved = [f"{v.format} {_short(v)}" for v in checks if v.outcome == "improved"]
    lines = [f"improved: {_list(improved)}"] if improved else []
    return lines + [f"  {headline(v)} {v.why}" for v in checks if v.outcome == "new" and v.why]


def _baseline(result: GateResult) -> str:
    options, before = result.options, result.before
    line = f"baseline: {options.baseline}"
    if options.baseline is None:
        limits = f"the absolute limits of {options.thresholds}"
        return f"baseline: none, judged by {'--gate-require' if options.require else limits}"
    if options.add_new:
        added = sum(check.outcome == "new" for check in result.checks)
        return f"{line} ({added} new entries added, the others left as they were)"
    if options.update and not result.current.entries:
        return f"{line} (left as it was: nothing was scored)"
    if options.update:
        count = len(result.current.entries)
        return f"{line} ({'updated' if before else 'new'}, {count} entries)"
    return line + (f" (made with {before.name})" if before and before.name else "")


def _notes(result: GateResult) -> list[str]:
    """What to know before trusting the checks: another environment, few cases, the power."""
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
    for check in result.checks:
        entry = before.entry(check.format, check.metric)
        if entry and check.p is not None and 0 < check.n < entry.n / 2:
            few.append(f"{check.format} {check.metric} {check.n} of {entry.n}")
    if few:
        lines.append(f"note: compared on less than half of the baseline's cases: {_list(few)}")
    return lines + ([result.power] if result.power else [])


def next_step(result: GateResult) -> str:
    """What to do after this run: a command to paste, or a case to look at."""
    options, before, current = result.options, result.before, result.current
    if not current.entries:
        return f"{options.command()}  (after mending what is named above)"
    if options.update:
        return f"{options.command()}  (compares with it)"
    if worst := worst_first(c for c in result.checks if c.fails or is_drop(c)):
        return _after_a_loss(result, worst)
    if options.baseline is None:
        command = options.command(UPDATE, baseline=suggested_baseline(options))
        return f"{command}  (keep these numbers as the baseline)"
    compared = [check for check in result.checks if check.delta is not None]
    better = any(check.outcome in ("improved", "new") for check in result.checks)
    if options.artefact or not better or any(severity(check) > 0 for check in compared):
        return "nothing to do; the baseline stays as it is"
    # A baseline is written whole, so the formats that this run left out have to be in it.
    left_out = before is not None and bool(set(before.formats) - set(current.formats))
    command = options.command(UPDATE, **({"formats": ()} if left_out else {}))
    return f"{command}  (nothing was lost: keeps these numbers as the baseline)"


def _after_a_loss(result: GateResult, worst: Sequence[GateCheck]) -> str:
    """Where to look, or how to ask more; never to keep the worse numbers."""
    options, check = result.options, worst[0]
    if all(each.outcome == "stale" for each in worst):
        command = replace(options, artefact=None).command(UPDATE)
        return f"{command}  (only if what changed was meant to)"
    named = next((each for each in worst if each.worst_case), None)
    if check.fails or not options.limit:
        if named is None:
            return f"{options.command()}  (after mending what is named above)"
        look = f"look at {named.worst_case} in {named.format}"
        if options.report:
            return f"{look}: {options.folder / 'report.html'}"
        return f"{look}: {options.command(report=True)}"
    more = min(max(c.needed for c in worst), _MANY)
    return f"{options.command(limit=max(more, 2 * options.limit))}  (more cases)"


def _list(words: Sequence[str]) -> str:
    more = f", … {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
