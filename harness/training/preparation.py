"""A run that has been checked, before any model is loaded: its data, its formats, its digest, its plan, and what is noted of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.formats import load_formats
from harness.records import Conversation, Format
from harness.run_file import RUN_FILE, Branch, RunMetadata, here, require_run_metadata
from harness.training.config import TrainConfig, parse_config
from harness.training.data.training_rows import TrainingRows, encoded_rows, read_training_rows, row_sets

if TYPE_CHECKING:
    from harness.models import LoadedModel
    from harness.training.data.examples import ExampleCache, TrainingPlan


@dataclass(frozen=True, slots=True)
class Preparation:
    """A run that has been checked: its data and formats, before any model is loaded."""

    config: TrainConfig
    rows: TrainingRows
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
    rows = read_training_rows(config.data, answered=config.objective.answers != "self")
    known = load_formats(*map(Path, config.formats.formats_dir))
    held_out = known.select(config.formats.held_out)
    families = {format.family for format in held_out}
    named = known.select(
        [name for name in config.formats.train if name in known or name.startswith("grammar:")]
    )
    both = sorted({format.family for format in named} & families)
    if both:
        drawn = both[0].startswith("grammar")
        raise HarnessError(
            f"formats.held_out: the family {both[0]!r} is also trained",
            hint="split=train and split=test" if drawn else "hold out whole families",
        )
    trained = [
        format for format in known.select(config.formats.train) if format.family not in families
    ]
    if not trained:
        raise HarnessError("formats.train: nothing is left to train in")
    return Preparation(config, rows, tuple(trained), tuple(held_out), tuple(known.values()))


def run_digest(ready: Preparation, base_digest: str, branch: Branch | None = None) -> str:
    """A digest of all that decides the run's weights: settings, data, formats, base, and where it branched from."""
    facts = parse_config(
        ready.config.as_dict()
    ).as_dict()  # as a file gives it: 8 and 8.0 are one setting
    for key in ("output_dir", "evaluation", "checkpoints", "auto_branch", "stopping", "tracking"):
        facts.pop(key)
    for key in ("max_tokens_per_batch", "gradient_checkpointing"):
        facts["optimisation"].pop(key)
    data = [
        [c.id, c.plain, [[m.role, m.content, m.name, m.weight] for m in c.messages]]
        for c in ready.conversations
    ]
    facts["data"].pop("train")
    sets = [
        [s.rows, s.draws]
        for s in row_sets(ready.conversations, ready.rows.set_of, ready.rows.weights)
    ]
    origin = {**asdict(branch), "parent": None} if branch else None
    stamp = json.dumps(
        [
            facts,
            data,
            sets,
            [f.digest for f in ready.trained],
            base_digest,
            *([origin] if origin else []),
        ],
        sort_keys=True,
    )
    return "sha256:" + hashlib.sha256(stamp.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def config_of_run(run: Path) -> TrainConfig:
    """The settings of a run as its run.json keeps them, with the folder where it now is."""
    config = parse_config(require_run_metadata(run).config, where=str(run / RUN_FILE))
    return replace(config, output_dir=str(run))


def metadata_of_run(ready: Preparation, digest: str, branch: Branch | None = None) -> RunMetadata:
    """What run.json says of a run."""
    return RunMetadata(
        digest,
        tuple(format.id for format in ready.trained),
        tuple(sorted({format.family for format in ready.trained})),
        tuple(format.id for format in ready.held_out),
        ready.config.as_dict(),
        here(),
        _described(ready.conversations),
        branch,
    )


def make_example_cache(ready: Preparation, loaded: LoadedModel) -> ExampleCache:
    """Everything that the run will meet, rendered and encoded, checked against max_length."""
    return encoded_rows(ready.config, ready.rows, ready.trained, loaded.tokenizer)[0]


def with_expected_answers(ready: Preparation, run: Path) -> Preparation:
    """The run with the conversations that it learns from, before its model is loaded: the model's own answers if ``run`` has them, else as many words as they may have tokens."""
    goal = ready.config.objective
    if goal.answers == "given":
        return ready
    from harness.training.distill.self_answers import ANSWERS_FILE, expected_answers

    own = expected_answers(
        run / ANSWERS_FILE, ready.conversations, goal.prompts, goal.max_new_tokens
    )
    return replace(
        ready,
        rows=replace(
            ready.rows,
            conversations=(*(ready.conversations if goal.answers == "both" else ()), *own),
        ),
    )


def plan_of(ready: Preparation, run: Path) -> TrainingPlan:
    """The steps of a run, before its model is loaded: the tokenizer tells which rows are refused, and ``run`` may have the model's own answers."""
    from harness.models import load_tokenizer, locate
    from harness.training.data.examples import make_plan

    ready = with_expected_answers(ready, run)
    return make_plan(
        ready.config,
        encoded_rows(
            ready.config, ready.rows, ready.trained, load_tokenizer(locate(ready.config.model))
        )[0],
    )


def _described(conversations: Sequence[Conversation]) -> dict[str, Any]:
    """What a model card tells of the data: how much of which kind, and no text or path of it."""
    files = {
        conversation.source.rsplit(":", 1)[0]
        for conversation in conversations
        if conversation.source
    }
    return {
        "conversations": len(conversations),
        "files": len(files),
        "tags": dict(Counter(tag for c in conversations for tag in c.tags).most_common()),
    }
