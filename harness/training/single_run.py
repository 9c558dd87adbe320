"""A training run as a user asks for it: settings in, adapter folder out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.models.quantisation import Quantisation
from harness.run_file import RunMetadata, read_run_metadata, write_run_metadata
from harness.training.config import TrainConfig
from harness.training.data.training_rows import encoded_rows, report_refusals
from harness.training.preparation import Preparation, metadata_of_run, prepare, run_digest
from harness.training.runs.lock import refuse_if_held, run_lock
from harness.training.runs.trackers import check_trackers
from harness.training.selection.early_stopping import StopDecision, judge
from harness.training.step.lora import add_control_tokens
from harness.training.step.optimisers import check_optimizer

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.training.loop import Judge
    from harness.training.step.distributed import Ranks


def train_one(
    config: TrainConfig,
    *,
    loaded: LoadedModel | None = None,
    quiet: bool = False,
    turned: Judge | None = None,
) -> Path:
    """Train one run. ``turned`` may end it after any measured checkpoint, as [stopping] may."""
    ready = prepare(config)
    from harness.models import pick_device
    from harness.training.step.distributed import join_ranks

    check_trackers(config.tracking.report_to)
    check_optimizer(
        config.optimisation.optim, (loaded.device if loaded else pick_device()).split(":")[0]
    )
    folder = Path(config.output_dir)
    refuse_if_held(folder)
    ranks = join_ranks()
    if ranks.count > 1 and (
        config.objective.kind != "supervised" or config.objective.answers != "given"
    ):
        raise HarnessError(
            "several processes train on given answers alone",
            where="objective",
            hint="start one process, without torchrun",
        )
    if loaded is None:
        with ranks.main_first():
            loaded = load_base(config)
    with run_lock(folder):
        return _train_locked(ready, loaded, ranks, turned, quiet=quiet)


def _train_locked(
    ready: Preparation, loaded: LoadedModel, ranks: Ranks, turned: Judge | None, *, quiet: bool
) -> Path:
    """Train in a folder that no other process works in. A follower computes for its leader and writes nothing."""
    config, folder = ready.config, Path(ready.config.output_dir)
    noted = read_run_metadata(folder)
    branch = noted.branch if noted else None
    digest = run_digest(ready, loaded.source.digest, branch)
    final = folder / "adapter"
    if (
        ranks.is_main
        and (final / "adapter_config.json").is_file()
        and noted
        and noted.digest == digest
        and not _may_go_on(noted, config)
    ):
        ranks.release()
        return final
    from harness.training.loop import Trainer
    from harness.training.objective import check_objective, make_objective, with_answers
    from harness.training.selection.checkpoint_eval import CheckpointMeasure

    if config.adapter.train_control_tokens:
        add_control_tokens(loaded, ready.trained)
    check_objective(ready, loaded)
    if config.objective.answers != "self":  # checked before anything is written
        cache, refused = encoded_rows(config, ready.rows, ready.trained, loaded.tokenizer)
    note = metadata_of_run(ready, digest, branch)
    if ranks.is_main:
        write_run_metadata(folder, note)
    if config.objective.answers != "given":
        ready = with_answers(ready, loaded)
        cache, refused = encoded_rows(config, ready.rows, ready.trained, loaded.tokenizer)
    if ranks.is_main:
        report_refusals(folder, ready.rows, refused)
    measure, start = CheckpointMeasure(ready, loaded), branch.schedule_from if branch else 0
    watch = _watch(config, turned)
    trainer = Trainer(
        config,
        loaded,
        cache,
        digest,
        measure,
        make_objective(ready, loaded),
        schedule_from=start,
        judge=watch,
        ranks=ranks,
    )
    if not ranks.is_main:
        trainer.updater.follow()
        return final
    final = trainer.run(quiet=quiet)
    ranks.release()  # not when an error ends the run: then torchrun ends the followers
    if trainer.stopped:
        write_run_metadata(folder, replace(note, stopped=trainer.stopped))
        print(
            f"stopped at step {trainer.stopped['step']}: {trainer.stopped['why']}", file=sys.stderr
        )
    return final


def _watch(config: TrainConfig, turned: Judge | None) -> Judge | None:
    """What may end the run: [stopping], and the watch for its turn."""
    watch = (
        partial(judge, stopping=config.stopping, evaluation=config.evaluation)
        if config.stopping.watched
        else None
    )
    if watch is None or turned is None:
        return watch or turned

    def both(entries: list[dict[str, Any]]) -> StopDecision:
        first = watch(entries)
        return replace(first, stop=first.stop or turned(entries).stop)

    return both


def load_base(config: TrainConfig) -> LoadedModel:
    """The model that a run trains an adapter on, quantised as its settings say."""
    from harness.models import load

    return load(
        config.model, dtype=config.dtype, quantisation=Quantisation(**asdict(config.quantisation))
    )


def _may_go_on(noted: RunMetadata, config: TrainConfig) -> bool:
    """Whether the run ended early for a reason that its settings no longer hold."""
    return bool(noted.stopped) and noted.config["stopping"] != json.loads(
        json.dumps(config.as_dict()["stopping"])
    )
