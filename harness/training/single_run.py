"""One training run: check everything, lock the folder, load the base, train, and record the end."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.local.engine import refuse_failing
from harness.errors import HarnessError
from harness.models import ADAPTER_FILE
from harness.models.architecture import context_window
from harness.models.quantisation import Quantisation
from harness.models.tensor_files import are_readable
from harness.run_file import ADAPTER_CONFIG, RunMetadata, read_run_metadata, write_run_metadata
from harness.tracking import check_trackers
from harness.training.config import TrainConfig
from harness.training.data.training_rows import report_rows
from harness.training.plan.format_findings import finding_lines, format_findings
from harness.training.preparation import Preparation, identify, metadata_of_run, prepare
from harness.training.runs.lock import refuse_if_held, run_lock
from harness.training.selection.early_stopping import StopRule, combined, configured_rule
from harness.training.step.lora import add_control_tokens
from harness.training.step.lora_targets import find_targets
from harness.training.step.optimisers import check_optimizer
from harness.training.step.sharding import refuse_unshardable

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.training.step.distributed import Ranks


def train_one(
    config: TrainConfig,
    *,
    loaded: LoadedModel | None = None,
    quiet: bool = False,
    stop_rule: StopRule | None = None,
) -> Path:
    """Train one run. ``stop_rule`` may end it after any checkpoint, as [stopping] may.

    Returns and raises as ``harness.training.start.train``, and changes ``loaded`` likewise.
    """
    ready = prepare(config)
    from harness.models import pick_device
    from harness.training.step.distributed import join_ranks

    check_trackers(config.tracking.report_to)
    device = loaded.device if loaded else pick_device()
    check_optimizer(config.optimisation.optim, device.split(":")[0])
    folder = Path(config.output_dir)
    refuse_if_held(folder)
    ranks = join_ranks()
    supervised = config.objective.kind == "supervised" and config.objective.answers == "given"
    if ranks.count > 1 and not supervised:
        raise HarnessError(
            "several processes can train only on given answers, with the supervised objective",
            where="objective",
            hint="start one process, without torchrun",
        )
    if config.optimisation.fsdp:
        loaded, ranks = _load_sharded(config, ranks, device, loaded)
    if loaded is None:
        with ranks.main_first():
            loaded = load_base(config)
    rule = combined(configured_rule(config), stop_rule)
    with run_lock(folder):
        return _train_locked(ready, loaded, ranks, rule, quiet=quiet)


def _train_locked(
    ready: Preparation,
    loaded: LoadedModel,
    ranks: Ranks,
    stop_rule: StopRule | None,
    *,
    quiet: bool,
) -> Path:
    """Train in a folder that no other process works in. Only the main process writes anything."""
    folder = Path(ready.config.output_dir)
    recorded = read_run_metadata(folder)
    ready, digest = identify(ready, recorded, loaded.source.digest)
    config = ready.config
    final = folder / "adapter"
    done = _is_written(final, recorded, digest)
    if ranks.from_main(done and not _may_continue(recorded, config)):
        return final
    from harness.training.fold_teachers import fold_teacher
    from harness.training.loop import Trainer
    from harness.training.objective import check_objective, make_objective, with_own_answers
    from harness.training.selection.checkpoint_eval import CheckpointMeasure

    refuse_failing(loaded)
    if config.adapter.train_control_tokens:
        add_control_tokens(loaded, ready.trained)
    check_objective(ready, loaded)
    targets = find_targets(loaded.model, config.adapter, quantised=bool(loaded.quantisation))
    if ranks.shards:
        refuse_unshardable(config, targets.chosen)
    window = context_window(loaded.model.config)
    if config.objective.answers != "self":  # check before anything is written
        cache, refused = ready.encode(loaded.tokenizer, window)
    branch = recorded.branch if recorded else None
    metadata = metadata_of_run(ready, digest, branch)
    if ranks.is_main:
        write_run_metadata(folder, metadata)
    if config.objective.answers != "given":
        ready = with_own_answers(ready, loaded)
        cache, refused = ready.encode(loaded.tokenizer, window)
    if ranks.is_main:
        report_rows(folder, ready.rows, refused)
        found = finding_lines(format_findings(ready.trained, loaded.tokenizer))
        for line in (*found, *([] if quiet else targets.lines())):
            print(line, file=sys.stderr)
    teacher = fold_teacher(ready, loaded, digest, quiet=quiet)
    trainer = Trainer(
        config,
        loaded,
        cache,
        digest,
        CheckpointMeasure(ready, cache.conversations, loaded),
        make_objective(ready, loaded, teacher),
        schedule_from=branch.schedule_from if branch else 0,
        stop_rule=stop_rule,
        ranks=ranks,
    )
    if not ranks.is_main:
        trainer.updater.follow()
        return final
    with ranks.leading():
        final = trainer.run(quiet=quiet)
    ranks.release()  # not when an error ends the run: then torchrun ends the other processes
    if stopped := trainer.stopped:
        write_run_metadata(folder, replace(metadata, stopped=stopped))
        print(f"stopped at step {stopped['step']}: {stopped['why']}", file=sys.stderr)
    return final


def load_base(config: TrainConfig, *, device: str = "auto") -> LoadedModel:
    """Load the model that a run trains an adapter on, quantised as its settings say."""
    from harness.models import load

    quantisation = Quantisation(**asdict(config.quantisation))
    return load(config.model, dtype=config.dtype, quantisation=quantisation, device=device)


def _load_sharded(
    config: TrainConfig, ranks: Ranks, device: str, loaded: LoadedModel | None
) -> tuple[LoadedModel | None, Ranks]:
    """Load the base and shard it. One process alone has nobody to share it with.

    Raises HarnessError for settings that need whole weights, and for a base that is loaded already.
    """
    from harness.models.device import pick_dtype

    if ranks.count == 1:
        print("optimisation.fsdp: one process holds the whole base", file=sys.stderr)
        return loaded, ranks
    refuse_unshardable(config)
    if loaded is not None:
        raise HarnessError("optimisation.fsdp: the base is loaded already, and whole")
    if config.dtype == "auto":  # that of the device, although the base is loaded beside it
        config = replace(config, dtype=pick_dtype(device))
    return ranks.shard(lambda: load_base(config, device="cpu"), device)


def _is_written(adapter: Path, recorded: RunMetadata | None, digest: str) -> bool:
    """Whether the adapter of a run with this digest is there; a damaged one is reported."""
    if not (adapter / ADAPTER_CONFIG).is_file():
        return False
    if recorded is None or recorded.digest != digest:
        return False
    if not are_readable(adapter / ADAPTER_FILE):
        print(f"{adapter}: damaged; it is written again", file=sys.stderr)
        return False
    return True


def _may_continue(recorded: RunMetadata | None, config: TrainConfig) -> bool:
    """Whether the run ended early under limits that its settings no longer have."""
    if recorded is None or not recorded.stopped:
        return False
    return bool(recorded.config["stopping"] != json.loads(json.dumps(asdict(config.stopping))))
