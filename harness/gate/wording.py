"""A verdict in words: two lines for a failure, one for a list."""

from __future__ import annotations

from collections.abc import Iterable

from harness.gate.thresholds import lower_is_better
from harness.records import Verdict
from harness.report.tables import compact, signed


def describe(verdict: Verdict) -> str:
    """Two lines: what changed against what is allowed, and the case to look at or the reason."""
    return f"{headline(verdict)}\n{_second(verdict)}"


def github_lines(verdicts: Iterable[Verdict]) -> list[str]:
    """The failures as GitHub Actions reads them from a log: shown beside the pull request, without a file or line of their own."""
    return [f"::error title=gate {_escaped(f'{v.format} {v.metric}', title=True)}::{_escaped(describe(v))}" for v in verdicts if v.failed]


def _escaped(text: str, title: bool = False) -> str:
    """As the workflow commands of GitHub want it: percent, line ends and, in a title, colons and commas are encoded."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if title else text


def headline(verdict: Verdict) -> str:
    """``alpaca-newline · stopped: .98 → .71 (−.27, allowed −.05, n 80, p .0003)``."""
    place = f"{verdict.format} · {verdict.metric}: "
    if verdict.current is None:
        return place + (f"{compact(verdict.baseline)} → not scored" if verdict.baseline is not None else "not scored")
    if verdict.baseline is None:
        return place + compact(verdict.current) + f" ({_unpaired(verdict)}n {verdict.n})"
    change = f"{compact(verdict.baseline)} → {compact(verdict.current)}"
    if verdict.outcome in ("stale", "missing") or verdict.delta is None:
        return place + f"{change} ({'cannot be compared' if verdict.outcome == 'missing' else verdict.outcome}, n {verdict.n})"
    allowed = signed(verdict.allowed if lower_is_better(verdict.metric) else -verdict.allowed)
    p = f", p {p_value(verdict.p)}" if verdict.p is not None else ""
    return place + f"{change} ({signed(verdict.delta)}, allowed {allowed}, n {verdict.n}{p})"


def _unpaired(verdict: Verdict) -> str:
    """The limit of an absolute check; a new cell has none."""
    if verdict.outcome == "new":
        return ""
    return f"at {'most' if lower_is_better(verdict.metric) else 'least'} {compact(verdict.allowed)}, "


def _second(verdict: Verdict) -> str:
    if verdict.why:
        return f"why: {verdict.why}"
    return f"worst case: {verdict.worst_case}" if verdict.worst_case else "no single case is worse"


def p_value(p: float) -> str:
    """Four decimals; below them only that it is below."""
    return "< .0001" if p < 0.0001 else f"{p:.4f}".removeprefix("0")
