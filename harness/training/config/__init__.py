"""The settings of a training run: a tree of frozen dataclasses, from file, environment and flags.

Names and meanings are those of transformers, peft and TRL. The docstring under a field is its help
text and its entry in docs/reference/settings.md.
"""

from harness.data.row_source import DataSource
from harness.training.config.data_sources import DataConfig, FormatsConfig
from harness.training.config.reading import parse_config, read_config, read_environment
from harness.training.config.sections import (
    AdapterConfig,
    AutoBranchConfig,
    CheckpointsConfig,
    EvaluationConfig,
    LossConfig,
    ObjectiveConfig,
    OptimisationConfig,
    QuantisationConfig,
    StoppingConfig,
    TrackingConfig,
)
from harness.training.config.tree import TrainConfig
from harness.training.schedules import ScheduleConfig

__all__ = [
    "AdapterConfig",
    "AutoBranchConfig",
    "CheckpointsConfig",
    "DataConfig",
    "DataSource",
    "EvaluationConfig",
    "FormatsConfig",
    "LossConfig",
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
