"""What a metric may lose before the gate fails: the registry's margins, and thresholds.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from harness.errors import HarnessError, nearest, validation_error
from harness.files import read_text
from harness.metrics.registry import METRICS
from harness.records import Group

THRESHOLDS_FILE = "thresholds.toml"


@dataclass(frozen=True, slots=True)
class Margin:
    """How much of one metric may be lost, in its own unit (a share, or nats per token).

    ``allowed`` holds in a format unless ``by_format`` has another for it, ``pooled`` for the mean
    over a group of formats.
    """

    metric: str
    allowed: float
    by_format: Mapping[str, float] = field(default_factory=dict)
    pooled: float | None = None

    def of(self, format_id: str) -> float:
        """The margin in one format."""
        return self.by_format.get(format_id, self.allowed)

    @property
    def of_group(self) -> float:
        """The margin of the mean over a group: that of one format unless another is set."""
        return self.allowed if self.pooled is None else self.pooled


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Margins against a baseline by metric, and absolute limits by group and metric."""

    margins: Mapping[str, Margin]
    absolute: Mapping[Group, Mapping[str, float]] = field(default_factory=dict)

    def limit(self, group: Group, metric: str) -> float | None:
        """The absolute limit of a metric in a group, or None if it has none."""
        return self.absolute.get(group, {}).get(metric)


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}, {nearest(name, METRICS)}")
    return name


MetricName = Annotated[str, AfterValidator(_known_metric)]
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
#: ``false`` in the file: the metric is recorded and not gated.
LimitOrFalse = Annotated[
    Limit | None, BeforeValidator(lambda value: None if value is False else value)
]


class MarginsTable(BaseModel):
    """``[margins]``: a number by metric, and the tables of single formats and of groups."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, LimitOrFalse]

    formats: dict[str, dict[MetricName, Limit]] = {}
    groups: dict[MetricName, Limit] = {}

    @model_validator(mode="after")
    def _metrics_are_known(self) -> Self:
        for name in self.__pydantic_extra__:
            _known_metric(name)
        return self


class ThresholdsFile(BaseModel):
    """thresholds.toml."""

    model_config = ConfigDict(extra="forbid")

    margins: MarginsTable = Field(default_factory=lambda: MarginsTable.model_validate({}))
    absolute: dict[Group, dict[MetricName, Limit]] = {}


def read_thresholds(path: Path, formats: Iterable[str] | None = None) -> Thresholds:
    """Read the file: its tables are ``[margins]``, with formats and groups, and ``[absolute]``.

    A metric that the file does not list has the margin that it declares itself, if any. Raises
    HarnessError with the file and the key for what is not TOML, an unknown key, metric or group, a
    number below 0, an override of a metric that has no margin, and, when the known ``formats`` are
    given, an override of an unknown format.
    """
    where = str(path)
    try:
        file = ThresholdsFile.model_validate(tomllib.loads(read_text(path, "thresholds")))
    except ValidationError as error:
        raise validation_error(error, where, known=ThresholdsFile.model_fields) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise HarnessError(f"not TOML: {error}", where) from None
    margins: dict[str, float | None] = {name: metric.margin for name, metric in METRICS.items()}
    margins |= file.margins.__pydantic_extra__
    allowed = {name: margin for name, margin in margins.items() if margin is not None}
    overrides = file.margins.formats
    if formats is not None:
        known = list(formats)
        for format_id in overrides:
            if format_id not in known:
                message = f"margins.formats: unknown format {format_id!r}"
                raise HarnessError(message, where, nearest(format_id, known))
    tables = {"groups": file.margins.groups}
    tables |= {f"formats.{format_id}": table for format_id, table in overrides.items()}
    for key, overridden in tables.items():
        for name in overridden:
            if name not in allowed:
                raise HarnessError(
                    f"margins.{key}.{name}: {name} has no margin of its own",
                    where,
                    f"give it one in [margins]: {name} = {overridden[name]}",
                )
    return Thresholds(
        margins={
            name: Margin(
                name,
                margin,
                {key: found[name] for key, found in overrides.items() if name in found},
                file.margins.groups.get(name),
            )
            for name, margin in allowed.items()
        },
        absolute=file.absolute,
    )
