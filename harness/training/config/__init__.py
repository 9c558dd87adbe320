"""The settings of a training run: one tree of frozen dataclasses, read from TOML, the environment and flags.

Names and meanings are those of transformers, peft and TRL. The docstring under a field is its help text
and its entry in docs/reference/settings.md. One file a group of sections; ``tree`` puts them together, ``reading`` reads them.
"""

from harness.training.config.data_sources import DataConfig, DataSource, FormatsConfig
from harness.training.config.reading import parse_config, read_config, read_environment
from harness.training.config.sections import (
    NLL_MEASURES,
    AdapterConfig,
    AutoBranchConfig,
    CheckpointsConfig,
    EvaluationConfig,
    ObjectiveConfig,
    OptimisationConfig,
    QuantisationConfig,
    ScheduleConfig,
    StoppingConfig,
    TrackingConfig,
)
from harness.training.config.tree import TrainConfig

__all__ = [
    "NLL_MEASURES",
    "AdapterConfig",
    "AutoBranchConfig",
    "CheckpointsConfig",
    "DataConfig",
    "DataSource",
    "EvaluationConfig",
    "FormatsConfig",
    "ObjectiveConfig",
    "OptimisationConfig",
    "QuantisationConfig",
    "ScheduleConfig",
    "StoppingConfig",
    "TrackingConfig",
    "TrainConfig",
    "parse_config",
    "read_config",
    "read_environment",
]
