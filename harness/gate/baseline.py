"""What the gate compares: an evaluation as values case by case, with the facts behind them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.backends.protocol import NOT_FINITE
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import described, kind_of, tools_and_thinking
from harness.formats.properties import check_format, render_digest
from harness.records import GROUPS, Aggregate, Case, Format, Group, Score, Word

if TYPE_CHECKING:
    from harness.evaluation.results import Evaluation

#: Decimals kept of every number: enough for a rate over thousands of cases, few enough for a diff.
DECIMALS = 4
#: Formats that a name like this draws have no file, and are drawn again by the same name.
GRAMMAR = "grammar:"


@dataclass(frozen=True, slots=True)
class FormatIdentity:
    """What is deterministic about a format; compared by equality, without margin.

    ``digest`` is the template's, ``group`` what the format is to the model. ``rendered`` is a
    digest of probe conversations as text with their trained parts, which changes also when the way
    templates are run changes. ``facts`` are computed properties (stop in the trained text, leading
    BOS, …).
    """

    digest: str
    group: Group
    rendered: str = ""
    facts: Mapping[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"unknown group {self.group!r}")


@dataclass(frozen=True, slots=True)
class BaselineEntry:
    """One metric in one format: its mean with 95 % interval (None: there is none), and its
    value for each case.

    ``values`` are in the order of the baseline's cases of this ``kind``; None means not scored.
    """

    format: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    n: int
    kind: str
    values: tuple[float | None, ...]

    def __post_init__(self) -> None:
        scored = [value for value in self.values if value is not None]
        place = f"{self.format} {self.metric}"
        if not scored or self.n != len(scored):
            raise ValueError(f"{place}: n is {self.n}, but {len(scored)} values are scored")
        mean = math.fsum(scored) / self.n
        if not math.isclose(self.mean, mean, rel_tol=1e-3, abs_tol=1e-3):
            raise ValueError(f"{place}: mean is {self.mean}, but its values give {mean:.4f}")


@dataclass(frozen=True)
class Baseline:
    """One model's numbers; the evaluation that is compared with a baseline is one too.

    ``name`` is the model's, for people; the digests identify it. ``cases`` holds, by kind of case,
    the digest of each case by its id, so that a case rewritten under its old id is never paired.
    ``grammar`` holds the names that drew formats (``grammar:N:seed=S``). ``reasons`` says why a
    (format, metric) was not scored at all; it is not kept on disk.
    """

    name: str
    model: str
    adapter: str
    native: str | None
    environment: Mapping[str, str]
    settings: Mapping[str, Any]
    formats: Mapping[str, FormatIdentity]
    cases: Mapping[str, Mapping[str, str]]
    entries: tuple[BaselineEntry, ...]
    grammar: tuple[str, ...] = ()
    words: Mapping[str, Word] = field(default_factory=dict)
    """The verdict on each format, in a word."""
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for entry in self.entries:
            place = f"{entry.format} {entry.metric}"
            if (entry.format, entry.metric) in seen:
                raise ValueError(f"{place}: occurs twice")
            seen.add((entry.format, entry.metric))
            if entry.format not in self.formats:
                raise ValueError(f"{place}: the format has no digest")
            if entry.kind not in self.cases:
                raise ValueError(f"{place}: there are no {entry.kind!r} cases")
            if len(entry.values) != (cases := len(self.cases[entry.kind])):
                raise ValueError(f"{place}: {len(entry.values)} values for {cases} cases")

    def entry(self, format_id: str, metric: str) -> BaselineEntry | None:
        """The entry of a format and metric, or None if it was not scored."""
        return next(
            (
                entry
                for entry in self.entries
                if (entry.format, entry.metric) == (format_id, metric)
            ),
            None,
        )

    def scored(self, entry: BaselineEntry) -> dict[str, float]:
        """Case id → value, of the cases that were scored."""
        return {
            case_id: value
            for case_id, value in zip(self.cases[entry.kind], entry.values, strict=True)
            if value is not None
        }


def to_baseline(evaluation: Evaluation, formats: Iterable[str] = ()) -> Baseline:
    """Reduce an evaluation to what the gate compares.

    ``formats`` are the names that selected its formats; those that drew some are kept.
    """
    cases: dict[str, dict[str, str]] = {}
    for case in sorted(evaluation.cases, key=lambda case: case.id):
        cases.setdefault(kind_of(case), {})[case.id] = scored_digest(case)
    from harness.evaluation.analysis.format_verdicts import verdicts

    values, reasons = _values_and_reasons(evaluation.scores)
    entries = [
        _entry(aggregate, cases, values[aggregate.format, aggregate.metric])
        for aggregate in evaluation.aggregates
        if (aggregate.format, aggregate.metric) in values
    ]
    return Baseline(
        name=evaluation.model,
        model=evaluation.fingerprint.get("model", ""),
        adapter=evaluation.fingerprint.get("adapter", ""),
        native=evaluation.native,
        environment={
            key: value
            for key, value in sorted(evaluation.fingerprint.items())
            if key not in ("model", "adapter")
        },
        # The sampling of recall changes no entry.
        settings={
            key: value
            for key, value in evaluation.settings.as_dict().items()
            if not key.startswith("recall")
        },
        formats={
            chat_format.id: format_identity(chat_format, evaluation.groups[chat_format.id])
            for chat_format in sorted(evaluation.formats, key=lambda chat_format: chat_format.id)
        },
        cases=dict(sorted(cases.items())),
        entries=tuple(sorted(entries, key=_place)),
        grammar=tuple(name for name in formats if name.startswith(GRAMMAR)),
        words={found.format: found.word for found in verdicts(evaluation)},
        reasons=reasons,
    )


def with_new_entries(old: Baseline, current: Baseline) -> Baseline:
    """The old baseline with the entries, formats and kinds of case that it does not have yet.

    What it has stays as it is. Raises HarnessError when new entries were measured on other cases
    of a kind than the baseline's: one list of cases serves all entries.
    """
    places = set(map(_place, old.entries))
    added = [entry for entry in current.entries if _place(entry) not in places]
    kinds = {entry.kind for entry in added}
    for kind in sorted(kinds & set(old.cases)):
        if dict(old.cases[kind]) != dict(current.cases[kind]):
            counts = f"{len(old.cases[kind])} there, {len(current.cases[kind])} here"
            raise HarnessError(
                f"the {kind} cases are not those of the baseline ({counts})",
                hint="write it again: --gate-update-baseline",
            )
    formats = {entry.format: current.formats[entry.format] for entry in added} | dict(old.formats)
    cases = {kind: current.cases[kind] for kind in kinds} | dict(old.cases)
    return replace(
        old,
        formats=dict(sorted(formats.items())),
        cases=dict(sorted(cases.items())),
        entries=tuple(sorted([*old.entries, *added], key=_place)),
        grammar=tuple(dict.fromkeys([*old.grammar, *current.grammar])),
        words={name: word for name, word in current.words.items() if name in formats}
        | dict(old.words),
    )


def format_identity(chat_format: Format, group: Group) -> FormatIdentity:
    """What is deterministic about a format: none of it depends on a model."""
    properties = check_format(chat_format).properties
    return FormatIdentity(
        chat_format.digest,
        group,
        render_digest(chat_format),
        {name: value for name, value in sorted(properties.items()) if isinstance(value, bool)},
    )


def scored_digest(case: Case) -> str:
    """Eight hexadecimal digits over all of a case that decides its scores (not its tags)."""
    facts = [
        [described(message) for message in case.messages],
        case.choices,
        case.answer,
        [asdict(check) for check in case.checks],
        case.reference,
        case.expect_language,
        case.name,
        *tools_and_thinking(case),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def rounded(value: float) -> float:
    """A number as a baseline keeps it, never −0."""
    return round(float(value), DECIMALS) + 0.0


def _place(entry: BaselineEntry) -> tuple[str, str]:
    return entry.format, entry.metric


def _values_and_reasons(
    scores: Iterable[Score],
) -> tuple[dict[tuple[str, str], dict[str, float]], dict[tuple[str, str], str]]:
    """The values of each (format, metric) by case, and why each other one was not scored.

    One value that is not finite, or that a NaN of the model kept from being scored, makes the whole
    (format, metric) not scored: to leave out such values would make a diverged model look better
    than it is.
    """
    values: dict[tuple[str, str], dict[str, float]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for score in scores:
        if score.value is None:
            place = (score.format, score.metric)
            if score.why.startswith(NOT_FINITE) or place not in reasons:
                reasons[place] = score.why
        else:
            values.setdefault((score.format, score.metric), {})[score.case] = score.value
    reasons = {
        place: why
        for place, why in reasons.items()
        if place not in values or why.startswith(NOT_FINITE)
    }
    values = {place: by_case for place, by_case in values.items() if place not in reasons}
    for place, by_case in list(values.items()):
        if bad := sum(not math.isfinite(value) for value in by_case.values()):
            reasons[place] = f"{bad} of {len(by_case)} values are not finite numbers"
            del values[place]
    return values, reasons


def _entry(
    aggregate: Aggregate, cases: Mapping[str, Mapping[str, str]], values: Mapping[str, float]
) -> BaselineEntry:
    assert aggregate.mean is not None  # noqa: S101  # it has values
    first = next(iter(values))
    kind = next(kind for kind, ids in cases.items() if first in ids)
    return BaselineEntry(
        aggregate.format,
        aggregate.metric,
        rounded(aggregate.mean),
        None if aggregate.low is None else rounded(aggregate.low),
        None if aggregate.high is None else rounded(aggregate.high),
        aggregate.n,
        kind,
        tuple(rounded(values[case_id]) if case_id in values else None for case_id in cases[kind]),
    )
