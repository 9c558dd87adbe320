"""The whole tree of settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from harness.training.config.data_sources import DataConfig, FormatsConfig
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
from harness.training.schedules import ScheduleConfig


@dataclass(frozen=True)
class TrainConfig:
    """A training run. A key is also a flag and a variable, so no two share a name."""

    model: str = "SmolLM2-135M-Instruct"
    """Model folder, GGUF file, hub id, or a packaged model: SmolLM2-135M-Instruct
    or gemma-3-270m."""
    output_dir: str = "runs/train"
    """Folder of the run. Starting again with the same settings resumes it."""
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    """Seeds data order, format draws, adapter initialisation and dropout."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of the frozen base, and of the arithmetic on a quantised one."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    quantisation: QuantisationConfig = field(default_factory=QuantisationConfig)
    data: DataConfig = field(default_factory=DataConfig)
    formats: FormatsConfig = field(default_factory=FormatsConfig)
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    auto_branch: AutoBranchConfig = field(default_factory=AutoBranchConfig)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def problems(self) -> list[str]:
        """Settings of different sections that do not go together."""
        measured = self.evaluation.references or self.evaluation.recall_rows
        if self.stopping.watched and not measured:
            zero = "evaluation.references and evaluation.recall_rows are 0"
            return [f"stopping: nothing is measured ({zero})"]
        return []

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain nested values."""
        return asdict(self)
