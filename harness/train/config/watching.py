"""[evaluation], [checkpoints], [auto_branch], [stopping] and [tracking]: what is measured, kept, watched and sent elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

#: Measures of a checkpoint that are logged by item, so that a turn can be told from noise.
NLL_MEASURES = ("nll_held_out", "nll_seen", "nll_native")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured at each checkpoint."""

    references: Annotated[int, Ge(0)] = 12
    """Reference cases whose NLL is read in seen and held-out formats. 0: none."""
    formats_measured: Annotated[int, Ge(1)] = 4
    """At most so many seen and so many held-out formats."""
    recall_rows: Annotated[int, Ge(0)] = 8
    """Training answers, and twins never trained on, whose log-probability is read. 0: none."""
    metric_for_best_model: str = "nll_held_out"
    """The deciding measure: any that is logged at checkpoints (nll_native, nll_seen, nll_held_out, hazard_held_out, recall, …). Without held-out formats nll_seen stands in for nll_held_out."""
    greater_is_better: bool = False
    """Whether a higher value of the deciding measure is the better one."""


@dataclass(frozen=True)
class CheckpointsConfig:
    """When the run is saved."""

    save_steps: Annotated[int, Ge(0)] = 0
    """Optimiser steps between checkpoints. 0: four times a run."""
    save_total_limit: Annotated[int, Ge(0)] = 0
    """Keep the newest so many, and besides them what the next two keep and those that others branched from. 0: all."""
    keep_every: Annotated[int, Ge(0)] = 0
    """Keep every checkpoint whose step is a multiple of this. 0: none for that."""
    keep_best: bool = False
    """Keep the checkpoint that is best in evaluation.metric_for_best_model."""


@dataclass(frozen=True)
class AutoBranchConfig:
    """Train at a high rate until the turn, go back to the last good checkpoint, continue at a lower rate, and so on."""

    branch_at_turn: bool = False
    """Do so. The run itself is the trunk and stops at its turn; each branch is a run of its own below it."""
    branch_measure: Literal["nll_held_out", "nll_seen", "nll_native"] = "nll_held_out"
    """What is to fall. Its values by item are needed (evaluation.references)."""
    branch_factor: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Each branch takes the rate of the run before times this."""
    branch_rounds: Annotated[int, Ge(1)] = 3
    """At most so many branches, one from another."""
    branch_epochs: Annotated[float, Ge(0)] = 0.0
    """Epochs of a branch. 0: what is left of num_train_epochs at the point it starts from."""
    branch_margin: Annotated[float, Ge(0)] = 1.0
    """How far before the turn to go back, in standard errors of the paired difference to the turn. 0: to the turn itself."""


@dataclass(frozen=True)
class StoppingConfig:
    """When a run ends before its last step, or a checkpoint is marked. Judged at every checkpoint; a limit that is not given is not watched."""

    early_stopping_patience: Annotated[int, Ge(0)] = 0
    """Stop after so many checkpoints without a better evaluation.metric_for_best_model. 0: never."""
    early_stopping_threshold: Annotated[float, Ge(0)] = 0.0
    """How much better counts as better."""
    max_recall_excess: float | None = None
    """Nats a token by which training answers may have become more likely than twins never trained on, since step 0, in the format where that is most."""
    max_drift_hazard: Annotated[float, Ge(0)] | None = None
    """Mean probability of another script along references, in the group of formats where it is highest."""
    max_nll_rise: Annotated[float, Ge(0)] | None = None
    """Nats a token by which held-out NLL may rise above its lowest so far."""
    on_limit: Literal["stop", "mark"] = "stop"
    """stop: the run ends. mark: it goes on, and the checkpoint is marked in metrics.jsonl."""

    @property
    def watched(self) -> bool:
        """Whether anything is watched at all."""
        return bool(self.early_stopping_patience) or any(limit is not None for limit in (self.max_recall_excess, self.max_drift_hazard, self.max_nll_rise))


@dataclass(frozen=True)
class TrackingConfig:
    """Where the log goes besides metrics.jsonl."""

    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers, through accelerate; each needs its package."""
    run_name: str = ""
    """The run's name there; the output folder's without it."""
    project: str = "formatproof"
    """The project's name there."""
