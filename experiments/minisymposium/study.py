"""The study file: the recipes of the experiment, and the part of each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError, nearest
from harness.training.config import DataSource, TrainConfig, read_config

PARTS = (1, 2, 3, 4, 5, 6, 7, 8)
Scale = Literal["full", "smoke"]
#: What a smoke run trains: enough to have two checkpoints.
SMOKE_STEPS = 4


@dataclass(frozen=True)
class Study:
    """Names of recipes beside the study file, by their part. ``NAME@1`` is NAME.toml with seed 1.

    A run that several parts name is trained once. ``symptom_steps`` are the checkpoints of the
    over-trained run that answer cases; ``*_cases`` count cases of each kind.
    """

    map: tuple[str, ...]
    over: str
    pairs: tuple[tuple[str, str], ...]
    constant: str
    schedules: tuple[str, ...]
    auto_branch: str
    alpha_reference: str
    alpha_raw: tuple[str, ...]
    alpha_compensated: tuple[str, ...]
    formats: tuple[str, ...]
    best: str
    drift: str
    plan: str
    seen: tuple[str, ...]
    held_out: tuple[str, ...]
    symptom_steps: tuple[int, ...]
    headline_cases: int
    drift_cases: int

    def runs(self, part: int) -> tuple[str, ...]:
        """The runs that a part needs, in order; each name once."""
        names = {
            1: self.map,
            2: (self.over,),
            3: tuple(name for pair in self.pairs for name in pair),
            4: (self.constant, *self.schedules, self.over, self.auto_branch),
            5: (self.alpha_reference, *self.alpha_raw, *self.alpha_compensated),
            6: self.formats,
            7: (self.drift,),
            8: (),
        }[part]
        return tuple(dict.fromkeys(names))


def read_study(path: Path) -> Study:
    """Read a study file. Raises HarnessError for an invalid one."""
    from pydantic import TypeAdapter, ValidationError

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        if unknown := sorted(set(table) - {field.name for field in fields(Study)}):
            raise HarnessError(
                f"unknown key {unknown[0]}",
                where=str(path),
                hint=nearest(unknown[0], [field.name for field in fields(Study)]),
            )
        return TypeAdapter(Study).validate_python(table)
    except OSError as error:
        hint = "run it in the repository, where docs/recipes/minisymposium/study.toml is"
        raise HarnessError(
            f"cannot read the study: {error.strerror}", where=str(path), hint=hint
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HarnessError(f"not TOML: {error}", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise HarnessError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}", where=str(path)
        ) from None


def read_run(
    folder: Path, name: str, out: Path, *, model: str = "", scale: Scale = "full"
) -> TrainConfig:
    """The settings of a run of the study in ``folder``.

    Its folder is in ``out``, named by the last part of its recipe's output_dir. A smoke run has few
    steps and references, so that a tiny model runs all of the code.
    """
    recipe, _, seed = name.partition("@")
    config = read_config(folder / f"{recipe}.toml")
    place = Path(config.output_dir).name + (f"-seed-{seed}" if seed else "")
    config = replace(config, output_dir=str(out / place), seed=int(seed) if seed else config.seed)
    if model:
        config = replace(config, model=model)
    return _smoke(config) if scale == "smoke" else config


def rows_of(config: TrainConfig) -> tuple[str, ...]:
    """The files that a run learns from."""
    sources: tuple[DataSource, ...] = config.data.sources()
    return tuple(source.path for source in sources)


def _smoke(config: TrainConfig) -> TrainConfig:
    evaluation = replace(
        config.evaluation,
        references=min(3, config.evaluation.references),
        formats_measured=1,
        recall_rows=min(2, config.evaluation.recall_rows),
    )
    return replace(
        config,
        data=replace(config.data, max_length=2048, on_refuse="skip"),
        optimisation=replace(
            config.optimisation,
            max_steps=SMOKE_STEPS,
            num_train_epochs=1,
            per_device_train_batch_size=2,
        ),
        evaluation=evaluation,
        checkpoints=replace(config.checkpoints, save_steps=2),
        auto_branch=replace(config.auto_branch, branch_rounds=1),
    )
