"""What a measure may lose before the gate fails, read from TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, nearest
from harness.records import GROUPS
from harness.report.wording import LOWER_IS_BETTER, METRICS

MEASURES = frozenset(METRICS)
_TABLES = ("margins", "absolute")


@dataclass(frozen=True, slots=True)
class Margin:
    """How much of one measure may be lost: in a format, in one that has a margin of its own, and in the mean over a group of formats.

    In the measure's own unit: a share for rates, nats per token for ``nll`` and ``nll_excess``.
    """

    metric: str
    allowed: float
    by_format: Mapping[str, float] = field(default_factory=dict)
    pooled: float | None = None

    def of(self, format: str) -> float:
        """The margin in one format."""
        return self.by_format.get(format, self.allowed)

    @property
    def of_group(self) -> float:
        """The margin of the mean over a group of formats: that of one format unless another is set."""
        return self.allowed if self.pooled is None else self.pooled


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Margins against a baseline by measure, and absolute limits by group and measure."""

    margins: Mapping[str, Margin]
    absolute: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def limit(self, group: str, metric: str) -> float | None:
        """The absolute limit of a measure in a group, or None if it has none."""
        return self.absolute.get(group, {}).get(metric)


def lower_is_better(metric: str) -> bool:
    """Whether a rise of this measure is a loss."""
    return metric in LOWER_IS_BETTER


def read_thresholds(path: Path, formats: Iterable[str] | None = None) -> Thresholds:
    """Read ``[margins]``, ``[margins.groups]``, ``[margins.formats."<id>"]`` and ``[absolute.<group>]``.

    Raises HarnessError with ``file:key`` for what is not TOML, an unknown key, measure or group, a
    number below 0, an override of a measure without a margin, and, when the known ``formats`` are
    given, an override of an unknown format.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(
            f"cannot read the thresholds: {error.strerror}", where=str(path)
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HarnessError(f"not TOML: {error}", where=str(path)) from None
    _known(tables, _TABLES, str(path), "unknown key")
    margins = _table(tables, "margins", str(path))
    overrides = _table(margins, "formats", f"{path}:margins")
    everywhere = _limits(
        {key: value for key, value in margins.items() if key not in ("formats", "groups")},
        f"{path}:margins",
    )
    pooled = _limits(_table(margins, "groups", f"{path}:margins"), f"{path}:margins.groups")
    _known(
        pooled,
        everywhere,
        f"{path}:margins.groups",
        "a margin of the mean over a group, of a measure that has none by format:",
    )
    if formats is not None:
        _known(overrides, formats, f"{path}:margins.formats", "unknown format")
    by_format = {
        id: _limits(
            _table(overrides, id, f"{path}:margins.formats"), f"{path}:margins.formats.{id}"
        )
        for id in overrides
    }
    for id, found in by_format.items():
        _known(
            found,
            everywhere,
            f"{path}:margins.formats.{id}",
            "an override of a measure that has no margin:",
        )
    absolute = _table(tables, "absolute", str(path))
    _known(absolute, GROUPS, f"{path}:absolute", "unknown group")
    return Thresholds(
        margins={
            metric: Margin(
                metric,
                allowed,
                {id: found[metric] for id, found in by_format.items() if metric in found},
                pooled.get(metric),
            )
            for metric, allowed in everywhere.items()
        },
        absolute={
            group: _limits(_table(absolute, group, f"{path}:absolute"), f"{path}:absolute.{group}")
            for group in absolute
        },
    )


def _table(parent: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = parent.get(key, {})
    if not isinstance(value, dict):
        raise HarnessError(f"{key} is a table, not {value!r}", where=where)
    return value


def _known(found: Iterable[str], known: Iterable[str], where: str, what: str) -> None:
    names = list(known)
    for key in found:
        if key not in names:
            raise HarnessError(f"{what} {key!r}", where=where, hint=nearest(key, names))


def _limits(table: Mapping[str, Any], where: str) -> dict[str, float]:
    """Measure → number. A measure's name and its number are checked."""
    _known(table, MEASURES, where, "unknown measure")
    for key, value in table.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or value < 0
        ):
            raise HarnessError(f"{key} = {value!r} is not a number from 0 upwards", where=where)
    return {key: float(value) for key, value in table.items()}
