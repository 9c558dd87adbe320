"""The study file of a model: its recipes, what it changes in them, and the part of each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, nearest
from harness.training.config import DataSource, TrainConfig, read_config
from harness.training.runs.overrides import settings_of

PARTS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
STUDIES = (
    "docs/recipes/minisymposium/study.toml",
    "docs/recipes/minisymposium-gemma/study.toml",
)
"""The study of each model, in the order of the page. They start from the checkout's root."""
Scale = Literal["full", "smoke"]
#: The epochs of the original's run at the low rate.
ORIGINAL_EPOCHS = 600
#: The steps of a smoke run, each with a checkpoint.
SMOKE_STEPS = 2


@dataclass(frozen=True)
class Study:
    """Names of recipes by their part. ``NAME@1`` is NAME.toml with seed 1.

    A run that several parts name is trained once, and a part without runs is left out. ``every``
    has settings that replace those of all recipes, ``only`` those of one recipe; so a second model
    takes the recipes of the first. ``symptom_steps`` and ``drift_steps`` are the checkpoints that
    answer cases (none given: all). ``*_cases`` count cases of each kind.
    """

    model: str
    map: tuple[str, ...]
    over: str
    pairs: tuple[tuple[str, str], ...]
    constant: str
    schedules: tuple[str, ...]
    auto_branch: str
    alpha_reference: str
    alpha_raw: tuple[str, ...]
    alpha_compensated: tuple[str, ...]
    drift: str
    long: str
    seen: tuple[str, ...]
    held_out: tuple[str, ...]
    symptom_steps: tuple[int, ...]
    drift_steps: tuple[int, ...] = ()
    formats: tuple[str, ...] = ()
    best: str = ""
    plan: str = ""
    native: str = ""
    """The format that a base model is measured in as its own. Empty: the one of its template."""
    recipes: str = "."
    """The folder of the recipes, seen from the study's."""
    place: str = ""
    """The folder of its results in --out, and of its figures beside the page."""
    headline_cases: int = 24
    symptom_cases: int = 32
    drift_cases: int = 32
    reference_cases: int = 40
    reported: tuple[str, ...] = ()
    """The held-out formats that references are reported in. Empty: all of them."""
    every: Mapping[str, Any] = field(default_factory=dict)
    only: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path = Path()
    """Where the study file is."""

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
            9: (self.long,),
        }[part]
        return tuple(dict.fromkeys(names))

    @property
    def parts(self) -> tuple[int, ...]:
        """The parts that the study has: all with runs, and the plan of part 8 if it names one."""
        return tuple(part for part in PARTS if self.runs(part) or (part == 8 and self.plan))

    @property
    def reference_run(self) -> str:
        """The run whose formats count as trained for every model: the best recipe's, if any."""
        return self.best or self.over

    def config(
        self, name: str, out: Path = Path(), *, model: str = "", scale: Scale = "full"
    ) -> TrainConfig:
        """The settings of a run.

        Its folder is in ``out``, named by the last part of its recipe's output_dir. ``model``
        replaces the study's. A smoke run has few steps and references, so that a tiny model runs
        all of the code.
        """
        recipe, _, seed = name.partition("@")
        config = read_config(self.folder / self.recipes / f"{recipe}.toml")
        place = Path(config.output_dir).name + (f"-seed-{seed}" if seed else "")
        changes = {**self.every, **self.only.get(recipe, {})}
        config, _ = settings_of(config, "", changes, f"the study of {self.model}")
        config = replace(
            config,
            model=model or self.model,
            output_dir=str(out / place),
            seed=int(seed) if seed else config.seed,
        )
        return _smoke(config) if scale == "smoke" else config


def read_study(path: Path) -> Study:
    """Read a study file. Raises HarnessError for an invalid one."""
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in fields(Study) if field.name != "folder"]
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        if unknown := sorted(set(table) - set(known)):
            raise HarnessError(
                f"unknown key {unknown[0]}", where=str(path), hint=nearest(unknown[0], known)
            )
        study = TypeAdapter(Study).validate_python(table)
    except OSError as error:
        hint = f"run it in the repository, where {STUDIES[0]} is"
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
    unused = sorted(set(study.only) - {name.partition("@")[0] for name in _names(study)})
    if unused:
        raise HarnessError(f"only.{unused[0]}: no part has such a run", where=str(path))
    return replace(study, folder=path.parent)


def _names(study: Study) -> list[str]:
    return [name for part in PARTS for name in study.runs(part)]


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
        checkpoints=replace(config.checkpoints, save_steps=1),
        auto_branch=replace(config.auto_branch, branch_rounds=1),
    )
