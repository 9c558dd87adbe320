"""A training run as a user asks for it: settings in, adapter folder out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.conversations import load_conversations
from harness.errors import HarnessError
from harness.evaluate.job import RUN_FILE
from harness.formats import load_formats
from harness.quantisation import Quantisation
from harness.records import Conversation, Format
from harness.resources import data_dir
from harness.train.config import TrainConfig
from harness.train.control_tokens import add_control_tokens, missing_tokens, with_tokens
from harness.train.optimisers import check_optimizer
from harness.train.tracking import check_trackers

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.train.examples import Plan


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


def run_digest(ready: Preparation, base_digest: str) -> str:
    """A digest of all that decides the run's weights: settings, data, formats, base."""
    facts = ready.config.as_dict()
    for key in ("output_dir", "evaluation", "checkpoints", "tracking"):
        facts.pop(key)
    for key in ("max_tokens_per_batch", "gradient_checkpointing"):
        facts["optimisation"].pop(key)
    data = [[c.id, [[m.role, m.content, m.name] for m in c.messages]] for c in ready.conversations]
    stamp = json.dumps([facts, data, [f.digest for f in ready.trained], base_digest], sort_keys=True)
    return "sha256:" + hashlib.sha256(stamp.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def train(config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Path:
    """Train, or go on with an interrupted run, or return at once when it is done. Returns the final adapter's folder."""
    ready = prepare(config)
    from harness.models import load, pick_device

    check_trackers(config.tracking.report_to)
    check_optimizer(config.optimisation.optim, (loaded.device if loaded else pick_device()).split(":")[0])
    folder = Path(config.output_dir)
    if loaded is None:
        loaded = load(config.model, dtype=config.dtype, quantisation=Quantisation(**asdict(config.quantisation)))
    digest = run_digest(ready, loaded.source.digest)
    final = folder / "adapter"
    if (final / "adapter_config.json").is_file() and _noted_digest(folder) == digest:
        return final
    from harness.train.loop import Trainer
    from harness.train.measure import CheckpointMeasure
    from harness.train.selection import check_objective, make_objective, with_answers

    if config.adapter.train_control_tokens:
        add_control_tokens(loaded, ready.trained)
    check_objective(ready, loaded)
    if config.objective.answers != "self":  # checked before anything is written
        cache = make_cache(ready, loaded)
    _note(folder, ready, digest)
    if config.objective.answers != "given":
        ready = with_answers(ready, loaded)
        cache = make_cache(ready, loaded)
    trainer = Trainer(config, loaded, cache, digest, CheckpointMeasure(ready, loaded), make_objective(ready, loaded))
    return trainer.run(quiet=quiet)


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


def _note(folder: Path, ready: Preparation, digest: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "digest": digest,
            "trained_formats": [format.id for format in ready.trained],
            "trained_families": sorted({format.family for format in ready.trained}),
            "held_out_formats": [format.id for format in ready.held_out],
            "data": _described(ready.conversations),
            "config": ready.config.as_dict(),
        }
        existing = _noted_digest(folder)
        if existing not in (None, digest):
            raise HarnessError(
                "this folder holds a run with other settings, data or base", where=str(folder), hint="choose another --output-dir or remove the folder"
            )
        (folder / RUN_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot write the run's folder: {error.strerror}", where=str(folder)) from None


def _described(conversations: Sequence[Conversation]) -> dict[str, Any]:
    """What a model card tells of the data: how much of which kind, and no text or path of it."""
    files = {conversation.source.rsplit(":", 1)[0] for conversation in conversations if conversation.source}
    return {"conversations": len(conversations), "files": len(files), "tags": dict(Counter(tag for c in conversations for tag in c.tags).most_common())}


def _noted_digest(folder: Path) -> str | None:
    file = folder / RUN_FILE
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))["digest"]
    return str(found)
