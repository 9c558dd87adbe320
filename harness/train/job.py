"""A training run as a user asks for it: settings in, adapter folder out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.conversations import load_conversations
from harness.errors import HarnessError
from harness.evaluate.job import RUN_FILE
from harness.formats import load_formats
from harness.quantisation import Quantisation
from harness.records import Conversation, Format
from harness.resources import data_dir
from harness.train.config import TrainConfig, parse_config
from harness.train.control_tokens import add_control_tokens, missing_tokens, with_tokens
from harness.train.lock import refuse_if_held, run_lock
from harness.train.note import Branch, RunNote, here, read_note, require_note, write_note
from harness.train.optimisers import check_optimizer
from harness.train.tracking import check_trackers

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.train.examples import Plan
    from harness.train.loop import Halt


@dataclass(frozen=True, slots=True)
class Preparation:
    """A run that has been checked: its data and formats, before any model is loaded."""

    config: TrainConfig
    conversations: tuple[Conversation, ...]
    trained: tuple[Format, ...]
    held_out: tuple[Format, ...]
    known: tuple[Format, ...]


def prepare(config: TrainConfig) -> Preparation:
    """Load and check conversations and formats.

    Raises HarnessError for what is unknown, and when a family is both trained and held out: then
    "held-out" would mean nothing.
    """
    conversations = load_conversations(config.data.train or [str(data_dir("trainset"))])
    known = load_formats(*map(Path, config.formats.formats_dir))
    held_out = known.select(config.formats.held_out)
    families = {format.family for format in held_out}
    both = sorted({known[name].family for name in config.formats.train if name in known} & families)
    if both:
        raise HarnessError(f"formats.held_out: the family {both[0]!r} is also trained", hint="hold out whole families")
    trained = [format for format in known.select(config.formats.train) if format.family not in families]
    if not trained:
        raise HarnessError("formats.train: nothing is left to train in")
    return Preparation(config, tuple(conversations), tuple(trained), tuple(held_out), tuple(known.values()))


def run_digest(ready: Preparation, base_digest: str, branch: Branch | None = None) -> str:
    """A digest of all that decides the run's weights: settings, data, formats, base, and where it branched from."""
    facts = parse_config(ready.config.as_dict()).as_dict()  # as a file gives it: 8 and 8.0 are one setting
    for key in ("output_dir", "evaluation", "checkpoints", "auto_branch", "tracking"):
        facts.pop(key)
    for key in ("max_tokens_per_batch", "gradient_checkpointing"):
        facts["optimisation"].pop(key)
    data = [[c.id, [[m.role, m.content, m.name] for m in c.messages]] for c in ready.conversations]
    origin = {**asdict(branch), "parent": None} if branch else None
    stamp = json.dumps([facts, data, [f.digest for f in ready.trained], base_digest, *([origin] if origin else [])], sort_keys=True)
    return "sha256:" + hashlib.sha256(stamp.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def train(config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Path:
    """Train, or go on with an interrupted run, or return at once when it is done. Returns the final adapter's folder.

    With ``auto_branch.branch_at_turn`` that is the chosen adapter of the whole tree. Raises HarnessError when another process
    trains in the folder or another run stands there.
    """
    if config.auto_branch.branch_at_turn:
        from harness.train.auto_branch import auto_branch

        return auto_branch(config, loaded=loaded, quiet=quiet)
    return train_one(config, loaded=loaded, quiet=quiet)


def train_one(config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False, halt: Halt | None = None) -> Path:
    """Train one run, without looking for its turn. ``halt`` may end it after any measured checkpoint."""
    ready = prepare(config)
    from harness.models import pick_device

    check_trackers(config.tracking.report_to)
    check_optimizer(config.optimisation.optim, (loaded.device if loaded else pick_device()).split(":")[0])
    folder = Path(config.output_dir)
    refuse_if_held(folder)
    if loaded is None:
        loaded = load_base(config)
    with run_lock(folder):
        noted = read_note(folder)
        branch = noted.branch if noted else None
        digest = run_digest(ready, loaded.source.digest, branch)
        final = folder / "adapter"
        if (final / "adapter_config.json").is_file() and noted and noted.digest == digest:
            return final
        from harness.train.loop import Trainer
        from harness.train.measure import CheckpointMeasure

        if config.adapter.train_control_tokens:
            add_control_tokens(loaded, ready.trained)
        cache = make_cache(ready, loaded)
        write_note(folder, noted_run(ready, digest, branch))
        start = branch.schedule_from if branch else 0
        trainer = Trainer(config, loaded, cache, digest, CheckpointMeasure(ready, loaded), schedule_from=start, halt=halt)
        return trainer.run(quiet=quiet)


def load_base(config: TrainConfig) -> LoadedModel:
    """The model that a run trains an adapter on, quantised as its settings say."""
    from harness.models import load

    return load(config.model, dtype=config.dtype, quantisation=Quantisation(**asdict(config.quantisation)))


def resume(run: Path, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Path:
    """Go on with a run from what its own run.json says. Its relative paths start where it was started. Returns the adapter's folder."""
    return train(noted_config(run), loaded=loaded, quiet=quiet)


def noted_config(run: Path) -> TrainConfig:
    """The settings of a run as its run.json keeps them, with the folder where it now is."""
    config = parse_config(require_note(run).config, where=str(run / RUN_FILE))
    return replace(config, output_dir=str(run))


def noted_run(ready: Preparation, digest: str, branch: Branch | None = None) -> RunNote:
    """What run.json says of a run."""
    return RunNote(
        digest,
        tuple(format.id for format in ready.trained),
        tuple(sorted({format.family for format in ready.trained})),
        tuple(format.id for format in ready.held_out),
        ready.config.as_dict(),
        here(),
        _described(ready.conversations),
        branch,
    )


def make_cache(ready: Preparation, loaded: LoadedModel) -> Any:
    """Everything that the run will meet, rendered and encoded, checked against max_length."""
    from harness.train.examples import ExampleCache, make_plan

    cache = ExampleCache(ready.conversations, ready.trained, loaded.tokenizer, ready.config.data.max_length)
    cache.check(make_plan(ready.config, len(ready.conversations), len(ready.trained)).pairs())
    return cache


def dry_run(config: TrainConfig) -> dict[str, Any]:
    """What the run would do: steps, tokens, formats and their coverage. Loads the tokenizer, not the model."""
    from harness.models import load_tokenizer, locate
    from harness.train.examples import ExampleCache, make_plan
    from harness.train.schedules import Schedule

    ready = prepare(config)
    tokenizer = load_tokenizer(locate(config.model))
    if config.adapter.train_control_tokens and (missing := missing_tokens(tokenizer, ready.trained)):
        tokenizer = with_tokens(tokenizer, missing)
    cache = ExampleCache(ready.conversations, ready.trained, tokenizer, config.data.max_length)
    plan: Plan = make_plan(config, len(ready.conversations), len(ready.trained))
    pairs = list(plan.pairs())
    cache.check(pairs)
    schedule = Schedule(config.optimisation.lr_scheduler_type, plan.total_steps, round(config.optimisation.warmup_ratio * plan.total_steps))
    used = {ready.trained[f].id: sum(1 for _, g in pairs if g == f) for f in range(len(ready.trained))}
    return {
        "conversations": len(ready.conversations),
        "steps": plan.total_steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "tokens": sum(len(cache(pair).encoded.ids) for pair in pairs),
        "supervised_tokens": sum(cache(pair).supervised for pair in pairs),
        "longest": max(len(cache(pair).encoded.ids) for pair in pairs),
        "sum_lr": config.optimisation.learning_rate * schedule.summed(plan.total_steps),
        "examples_by_format": used,
        "held_out": [format.id for format in ready.held_out],
    }


def _described(conversations: Sequence[Conversation]) -> dict[str, Any]:
    """What a model card tells of the data: how much of which kind, and no text or path of it."""
    files = {conversation.source.rsplit(":", 1)[0] for conversation in conversations if conversation.source}
    return {"conversations": len(conversations), "files": len(files), "tags": dict(Counter(tag for c in conversations for tag in c.tags).most_common())}
