"""[data] and [formats]: the conversations of a run and its prompt formats."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro
from annotated_types import Ge, Interval

from harness.data.row_source import DataSource, source_of
from harness.data.schemas import SchemaName
from harness.resources import data_dir


def _as_flag(value: str | DataSource) -> list[str]:
    return [value if isinstance(value, str) else f"{value.path}:{value.weight:g}"]


_FLAG = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="PATH[:WEIGHT]",
    instance_from_str=lambda args: args[0],
    is_instance=lambda value: isinstance(value, str | DataSource),
    str_from_instance=_as_flag,
)


@dataclass(frozen=True)
class DataConfig:
    """Training data."""

    train: tuple[Annotated[str | DataSource, _FLAG], ...] = ()
    """Conversation files, folders of them or data sets of the hub: "path", "path:weight", or a
    table {path, weight, schema, split}. Empty: the shipped training set."""
    schema: SchemaName = "auto"
    """How rows are written. auto: detected from the first row of each file."""
    max_length: Annotated[int, Ge(16)] = 2048
    """Tokens of the longest conversation. Longer ones are refused, never cut."""
    on_refuse: Literal["error", "skip"] = "error"
    """What happens to rows that cannot be trained. error: the run does not start. skip: they are
    left out, counted, and listed in refused.jsonl."""
    controls: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    """Rows kept out of training at random, to compare recall with. auto: a tenth
    of the rows, from 10 to 200; none of fewer than 50 rows, nor of the shipped training set, which
    has controls of its own. 0: none."""
    forged_turns: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Share of the examples with a forged turn in the last question: text that looks like a reply
    and another question, in a trained format. The model learns the answer to the row's own question
    (arXiv 2402.06363). At 0, training in many formats can make a model obey such turns far more
    often: docs/forged-turns.md. 0.3 prevented that."""

    def sources(self) -> tuple[DataSource, ...]:
        """The sets to learn from, each with its weight and schema."""
        given = [source_of(value) for value in self.train or (str(data_dir("trainset")),)]
        return tuple(
            DataSource(s.path, s.weight, self.schema if s.schema == "auto" else s.schema, s.split)
            for s in given
        )

    def problems(self) -> list[str]:
        """Weights that are not positive numbers."""
        return [
            f"train = {_as_flag(value)[0]!r}: a weight must be a number above 0"
            for value in self.train
            if not 0 < source_of(value).weight < math.inf
        ]


@dataclass(frozen=True)
class FormatsConfig:
    """The prompt formats of the run."""

    train: Annotated[tuple[str, ...], tyro.conf.arg(name="formats")] = ("common",)
    """What to train in: ids, globs, sets ("common", "all") or random formats of the grammar
    ("grammar:200:seed=7:split=train", with ":style=tags" made-up control strings). Families in
    held_out are left out of sets and globs."""
    held_out: tuple[str, ...] = ()
    """Formats in which checkpoints are measured. They and their families are never trained.
    """
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""
    mixing: Literal["balanced", "uniform", "weighted", "all"] = "balanced"
    """balanced: over F epochs each conversation is used once in each of F formats. uniform: drawn
    at random. weighted: drawn by format_weights. all: every format in every epoch."""
    format_weights: dict[str, Annotated[float, Ge(0)]] = field(default_factory=dict)
    """Weights of formats or families when mixing is weighted. A format's own overrides its
    family's; the others have weight 1."""

    def problems(self) -> list[str]:
        """Settings that would have no effect."""
        return (
            ['format_weights: have no effect unless mixing = "weighted"']
            if self.format_weights and self.mixing != "weighted"
            else []
        )
