"""A training run as a user asks for it: settings in, adapter folder out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.evaluate.job import RUN_FILE
from harness.formats import load_formats
from harness.quantisation import Quantisation
from harness.records import Conversation, Format
from harness.train.config import TrainConfig
from harness.train.control_tokens import add_control_tokens
from harness.train.optimisers import check_optimizer
from harness.train.rows import Rows, encoded_rows, read_training_rows, row_sets, tell_refusals
from harness.train.stopping import judge
from harness.train.tracking import check_trackers

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.train.examples import ExampleCache


@dataclass(frozen=True, slots=True)
class Preparation:
    """A run that has been checked: its data and formats, before any model is loaded."""

    config: TrainConfig
    rows: Rows
    trained: tuple[Format, ...]
    held_out: tuple[Format, ...]
    known: tuple[Format, ...]

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """What is learnt from."""
        return self.rows.conversations


def prepare(config: TrainConfig) -> Preparation:
    """Load and check conversations and formats.

    Raises HarnessError for what is unknown, and when a family is both trained and held out: then
    "held-out" would mean nothing.
    """
    rows = read_training_rows(config.data)
    known = load_formats(*map(Path, config.formats.formats_dir))
    held_out = known.select(config.formats.held_out)
    families = {format.family for format in held_out}
    both = sorted({known[name].family for name in config.formats.train if name in known} & families)
    if both:
        raise HarnessError(f"formats.held_out: the family {both[0]!r} is also trained", hint="hold out whole families")
    trained = [format for format in known.select(config.formats.train) if format.family not in families]
    if not trained:
        raise HarnessError("formats.train: nothing is left to train in")
    return Preparation(config, rows, tuple(trained), tuple(held_out), tuple(known.values()))


def run_digest(ready: Preparation, base_digest: str) -> str:
    """A digest of all that decides the run's weights: settings, data, formats, base."""
    facts = ready.config.as_dict()
    for key in ("output_dir", "evaluation", "checkpoints", "stopping", "tracking"):
        facts.pop(key)
    for key in ("max_tokens_per_batch", "gradient_checkpointing"):
        facts["optimisation"].pop(key)
    data = [[c.id, c.plain, [[m.role, m.content, m.name, m.weight] for m in c.messages]] for c in ready.conversations]
    facts["data"].pop("train")
    sets = [[s.rows, s.draws] for s in row_sets(ready.conversations, ready.rows.set_of, ready.rows.weights)]
    stamp = json.dumps([facts, data, sets, [f.digest for f in ready.trained], base_digest], sort_keys=True)
    return "sha256:" + hashlib.sha256(stamp.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def train(config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False) -> Path:
    """Train, or go on with an interrupted run, or return at once when it is done. Returns the final adapter's folder."""
    ready = prepare(config)
    from harness.models import load, pick_device
    from harness.train.team import join

    check_trackers(config.tracking.report_to)
    check_optimizer(config.optimisation.optim, (loaded.device if loaded else pick_device()).split(":")[0])
    folder = Path(config.output_dir)
    team = join()
    if team.count > 1 and (config.objective.kind != "supervised" or config.objective.answers != "given"):
        raise HarnessError("several processes train on given answers alone", where="objective", hint="start one process, without torchrun")
    if loaded is None:
        with team.leader_first():
            loaded = load(config.model, dtype=config.dtype, quantisation=Quantisation(**asdict(config.quantisation)))
    digest = run_digest(ready, loaded.source.digest)
    final = folder / "adapter"
    if team.leads and (final / "adapter_config.json").is_file() and _noted_digest(folder) == digest and not _may_go_on(folder, config):
        team.release()
        return final
    from harness.train.loop import Trainer
    from harness.train.measure import CheckpointMeasure
    from harness.train.selection import check_objective, make_objective, with_answers

    if config.adapter.train_control_tokens:
        add_control_tokens(loaded, ready.trained)
    check_objective(ready, loaded)
    if config.objective.answers != "self":  # checked before anything is written
        cache, refused = encoded_rows(config, ready.rows, ready.trained, loaded.tokenizer)
    if team.leads:
        _note(folder, ready, digest)
    if config.objective.answers != "given":
        ready = with_answers(ready, loaded)
        cache, refused = encoded_rows(config, ready.rows, ready.trained, loaded.tokenizer)
    if team.leads:
        tell_refusals(folder, ready.rows, refused)
    watch = partial(judge, stopping=config.stopping, evaluation=config.evaluation) if config.stopping.watched else None
    trainer = Trainer(config, loaded, cache, digest, CheckpointMeasure(ready, loaded), make_objective(ready, loaded), judge=watch, team=team)
    if not team.leads:
        trainer.updater.follow()
        return final
    final = trainer.run(quiet=quiet)
    team.release()  # not when an error ends the run: then torchrun ends the followers
    if trainer.stopped:
        _note(folder, ready, digest, trainer.stopped)
        print(f"stopped at step {trainer.stopped['step']}: {trainer.stopped['why']}", file=sys.stderr)
    return final


def make_cache(ready: Preparation, loaded: LoadedModel) -> ExampleCache:
    """Everything that the run will meet, rendered and encoded, checked against max_length."""
    return encoded_rows(ready.config, ready.rows, ready.trained, loaded.tokenizer)[0]


def _may_go_on(folder: Path, config: TrainConfig) -> bool:
    """Whether the run ended early for a reason that its settings no longer hold."""
    noted = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    return bool(noted.get("stopped")) and noted["config"]["stopping"] != json.loads(json.dumps(config.as_dict()["stopping"]))


def _note(folder: Path, ready: Preparation, digest: str, stopped: dict[str, Any] | None = None) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "digest": digest,
            "trained_formats": [format.id for format in ready.trained],
            "trained_families": sorted({format.family for format in ready.trained}),
            "held_out_formats": [format.id for format in ready.held_out],
            "data": _described(ready.conversations),
            "config": ready.config.as_dict(),
            "stopped": stopped,
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
