"""A training run as a user asks for it: settings in, adapter folder out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.evaluate.job import RUN_FILE
from harness.formats import load_formats
from harness.quantisation import Quantisation
from harness.records import Conversation, Format
from harness.train.config import TrainConfig, parse_config
from harness.train.control_tokens import add_control_tokens
from harness.train.lock import refuse_if_held, run_lock
from harness.train.note import Branch, RunNote, here, read_note, require_note, write_note
from harness.train.optimisers import check_optimizer
from harness.train.rows import Rows, encoded_rows, read_training_rows, row_sets, tell_refusals
from harness.train.stopping import Judgement, judge
from harness.train.tracking import check_trackers

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.train.examples import ExampleCache, Plan
    from harness.train.loop import Judge
    from harness.train.team import Team


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


def run_digest(ready: Preparation, base_digest: str, branch: Branch | None = None) -> str:
    """A digest of all that decides the run's weights: settings, data, formats, base, and where it branched from."""
    facts = parse_config(ready.config.as_dict()).as_dict()  # as a file gives it: 8 and 8.0 are one setting
    for key in ("output_dir", "evaluation", "checkpoints", "auto_branch", "stopping", "tracking"):
        facts.pop(key)
    for key in ("max_tokens_per_batch", "gradient_checkpointing"):
        facts["optimisation"].pop(key)
    data = [[c.id, c.plain, [[m.role, m.content, m.name, m.weight] for m in c.messages]] for c in ready.conversations]
    facts["data"].pop("train")
    sets = [[s.rows, s.draws] for s in row_sets(ready.conversations, ready.rows.set_of, ready.rows.weights)]
    origin = {**asdict(branch), "parent": None} if branch else None
    stamp = json.dumps([facts, data, sets, [f.digest for f in ready.trained], base_digest, *([origin] if origin else [])], sort_keys=True)
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


def train_one(config: TrainConfig, *, loaded: LoadedModel | None = None, quiet: bool = False, turned: Judge | None = None) -> Path:
    """Train one run. ``turned`` may end it after any measured checkpoint, as [stopping] may."""
    ready = prepare(config)
    from harness.models import pick_device
    from harness.train.team import join

    check_trackers(config.tracking.report_to)
    check_optimizer(config.optimisation.optim, (loaded.device if loaded else pick_device()).split(":")[0])
    folder = Path(config.output_dir)
    refuse_if_held(folder)
    team = join()
    if team.count > 1 and (config.objective.kind != "supervised" or config.objective.answers != "given"):
        raise HarnessError("several processes train on given answers alone", where="objective", hint="start one process, without torchrun")
    if loaded is None:
        with team.leader_first():
            loaded = load_base(config)
    with run_lock(folder):
        return _train_locked(ready, loaded, team, turned, quiet=quiet)


def _train_locked(ready: Preparation, loaded: LoadedModel, team: Team, turned: Judge | None, *, quiet: bool) -> Path:
    """Train in a folder that no other process works in. A follower computes for its leader and writes nothing."""
    config, folder = ready.config, Path(ready.config.output_dir)
    noted = read_note(folder)
    branch = noted.branch if noted else None
    digest = run_digest(ready, loaded.source.digest, branch)
    final = folder / "adapter"
    if team.leads and (final / "adapter_config.json").is_file() and noted and noted.digest == digest and not _may_go_on(noted, config):
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
    note = noted_run(ready, digest, branch)
    if team.leads:
        write_note(folder, note)
    if config.objective.answers != "given":
        ready = with_answers(ready, loaded)
        cache, refused = encoded_rows(config, ready.rows, ready.trained, loaded.tokenizer)
    if team.leads:
        tell_refusals(folder, ready.rows, refused)
    measure, start = CheckpointMeasure(ready, loaded), branch.schedule_from if branch else 0
    watch = _watch(config, turned)
    trainer = Trainer(config, loaded, cache, digest, measure, make_objective(ready, loaded), schedule_from=start, judge=watch, team=team)
    if not team.leads:
        trainer.updater.follow()
        return final
    final = trainer.run(quiet=quiet)
    team.release()  # not when an error ends the run: then torchrun ends the followers
    if trainer.stopped:
        write_note(folder, replace(note, stopped=trainer.stopped))
        print(f"stopped at step {trainer.stopped['step']}: {trainer.stopped['why']}", file=sys.stderr)
    return final


def _watch(config: TrainConfig, turned: Judge | None) -> Judge | None:
    """What may end the run: [stopping], and the watch for its turn."""
    watch = partial(judge, stopping=config.stopping, evaluation=config.evaluation) if config.stopping.watched else None
    if watch is None or turned is None:
        return watch or turned

    def both(entries: list[dict[str, Any]]) -> Judgement:
        first = watch(entries)
        return replace(first, stop=first.stop or turned(entries).stop)

    return both


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


def make_cache(ready: Preparation, loaded: LoadedModel) -> ExampleCache:
    """Everything that the run will meet, rendered and encoded, checked against max_length."""
    return encoded_rows(ready.config, ready.rows, ready.trained, loaded.tokenizer)[0]


def plan_of(ready: Preparation) -> Plan:
    """The steps of a run, before its model is loaded: the tokenizer tells which rows are refused."""
    from harness.models import load_tokenizer, locate
    from harness.train.examples import make_plan

    return make_plan(ready.config, encoded_rows(ready.config, ready.rows, ready.trained, load_tokenizer(locate(ready.config.model)))[0])


def _may_go_on(noted: RunNote, config: TrainConfig) -> bool:
    """Whether the run ended early for a reason that its settings no longer hold."""
    return bool(noted.stopped) and noted.config["stopping"] != json.loads(json.dumps(config.as_dict()["stopping"]))


def _described(conversations: Sequence[Conversation]) -> dict[str, Any]:
    """What a model card tells of the data: how much of which kind, and no text or path of it."""
    files = {conversation.source.rsplit(":", 1)[0] for conversation in conversations if conversation.source}
    return {"conversations": len(conversations), "files": len(files), "tags": dict(Counter(tag for c in conversations for tag in c.tags).most_common())}
