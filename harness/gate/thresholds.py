"""What a metric may lose before the gate fails, and the gate's settings: thresholds.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

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
class Tolerance:
    """How much of one metric may be lost, in its own unit (a share, or nats per token).

    ``allowed`` holds in a format unless ``by_format`` has another for it, ``pooled`` for the mean
    over a group of formats.
    """

    metric: str
    allowed: float
    by_format: Mapping[str, float] = field(default_factory=dict)
    pooled: float | None = None

    def of(self, format_id: str) -> float:
        """The tolerance in one format."""
        return self.by_format.get(format_id, self.allowed)

    @property
    def of_group(self) -> float:
        """The tolerance of the mean over a group: that of one format unless another is set."""
        return self.allowed if self.pooled is None else self.pooled


class GateTable(BaseModel):
    """``[gate]``: what the gate measures, unless a flag says otherwise.

    Paths are relative to the folder in which pytest is started, the repository's root.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = ""
    adapter: str | None = None
    native: str | None = None
    endpoint: str | None = None
    formats: list[str] = []
    formats_dir: list[str] = []
    cases: list[str] = []
    metrics: list[str] = []
    limit: Annotated[int, Field(ge=1)] | None = None
    baseline: str | None = None
    strict: bool = False
    """Whether an inconclusive check fails."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Tolerances against a baseline by metric, and absolute limits by group and metric."""

    tolerances: Mapping[str, Tolerance]
    absolute: Mapping[Group, Mapping[str, float]] = field(default_factory=dict)
    not_broken: tuple[str, ...] = ("native", "seen")
    """Groups, formats and globs whose verdict must not be *broken*, without a baseline."""

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


class TolerancesTable(BaseModel):
    """``[tolerances]``: a number by metric, and the tables of single formats and of groups."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, LimitOrFalse]

    formats: dict[str, dict[MetricName, Limit]] = {}
    groups: dict[MetricName, Limit] = {}

    @model_validator(mode="after")
    def _metrics_are_known(self) -> Self:
        for name in self.__pydantic_extra__:
            _known_metric(name)
        return self


class VerdictsTable(BaseModel):
    """``[verdicts]``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    not_broken: list[str] = ["native", "seen"]


class ThresholdsFile(BaseModel):
    """thresholds.toml."""

    model_config = ConfigDict(extra="forbid")

    gate: GateTable = Field(default_factory=GateTable)
    tolerances: TolerancesTable = Field(default_factory=lambda: TolerancesTable.model_validate({}))
    absolute: dict[Group, dict[MetricName, Limit]] = {}
    verdicts: VerdictsTable = Field(default_factory=VerdictsTable)


def read_gate_table(path: Path) -> GateTable:
    """Only ``[gate]``: the rest may name metrics that are not loaded yet.

    Raises HarnessError with the file and the key.
    """
    table = _read(path).get("gate", {})
    try:
        return GateTable.model_validate(table)
    except ValidationError as error:
        where = f"{path}: gate"
        raise validation_error(error, where, known=GateTable.model_fields) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, "thresholds"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise HarnessError(f"not TOML: {error}", str(path)) from None


def read_thresholds(path: Path, formats: Iterable[str] | None = None) -> Thresholds:
    """Read the file: ``[gate]``, ``[tolerances]`` with formats and groups, and ``[absolute]``.

    A metric that the file does not list has the tolerance that it declares itself, if any. Raises
    HarnessError with the file and the key for what is not TOML, an unknown key, metric or group, a
    number below 0, an override of a metric that has no tolerance, and, when the known ``formats``
    are given, an override of an unknown format.
    """
    where = str(path)
    try:
        file = ThresholdsFile.model_validate(_read(path))
    except ValidationError as error:
        raise validation_error(error, where, known=ThresholdsFile.model_fields) from None
    tolerances: dict[str, float | None] = {
        name: metric.tolerance for name, metric in METRICS.items()
    }
    tolerances |= file.tolerances.__pydantic_extra__
    allowed = {name: value for name, value in tolerances.items() if value is not None}
    overrides = file.tolerances.formats
    if formats is not None:
        known = list(formats)
        for format_id in overrides:
            if format_id not in known:
                message = f"tolerances.formats: unknown format {format_id!r}"
                raise HarnessError(message, where, nearest(format_id, known))
    tables = {"groups": file.tolerances.groups}
    tables |= {f"formats.{format_id}": table for format_id, table in overrides.items()}
    for key, overridden in tables.items():
        for name in overridden:
            if name not in allowed:
                raise HarnessError(
                    f"tolerances.{key}.{name}: {name} has no tolerance of its own",
                    where,
                    f"give it one in [tolerances]: {name} = {overridden[name]}",
                )
    return Thresholds(
        tolerances={
            name: Tolerance(
                name,
                value,
                {key: found[name] for key, found in overrides.items() if name in found},
                file.tolerances.groups.get(name),
            )
            for name, value in allowed.items()
        },
        absolute=file.absolute,
        not_broken=tuple(file.verdicts.not_broken),
    )
