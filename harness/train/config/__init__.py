"""The settings of a training run: one tree of frozen dataclasses, read from TOML, the environment and flags.

Names and meanings are those of transformers, peft and TRL. The docstring under a field is its help text
and its entry in docs/reference/settings.md. One file a group of sections; ``tree`` puts them together, ``reading`` reads them.
"""

from harness.train.config.model import AdapterConfig, QuantisationConfig
from harness.train.config.objective import ObjectiveConfig
from harness.train.config.optimisation import OptimisationConfig, ScheduleConfig
from harness.train.config.reading import parse_config, read_config, read_environment
from harness.train.config.sources import DataConfig, DataSource, FormatsConfig
from harness.train.config.tree import TrainConfig
from harness.train.config.watching import NLL_MEASURES, AutoBranchConfig, CheckpointsConfig, EvaluationConfig, StoppingConfig, TrackingConfig

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
