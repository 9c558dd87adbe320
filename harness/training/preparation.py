"""A run that was checked before any model is loaded: its data, formats, digest and plan."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.conversation import Conversation
from harness.data.controls import read_controls, thought_and_calls
from harness.data.tool_use import ThoughtsAndCalls
from harness.errors import HarnessError
from harness.evaluation.format_groups import NATIVE, native_format
from harness.formats import FormatSet, load_formats
from harness.models.architecture import context_window, read_config
from harness.records import Format
from harness.run_file import (
    RUN_FILE,
    Branch,
    RunMetadata,
    read_run_metadata,
    require_run_metadata,
)
from harness.training.config import LossConfig, TrainConfig, parse_config
from harness.training.config.other_names import with_removed
from harness.training.config.reading import parse_recorded
from harness.training.data.training_rows import (
    TrainingRows,
    encoded_rows,
    read_training_rows,
    row_sets,
)
from harness.training.runs.run_tree import root_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.data.refusals import Refusal
    from harness.training.data.examples import ExampleCache, TrainingPlan


@dataclass(frozen=True, slots=True)
class Preparation:
    """A run's settings, data and formats, checked. ``known`` are all formats, used or not."""

    config: TrainConfig
    rows: TrainingRows
    trained: tuple[Format, ...]
    held_out: tuple[Format, ...]
    known: tuple[Format, ...]

    @property
    def conversations(self) -> tuple[Conversation, ...]:
        """The conversations to learn from."""
        return self.rows.conversations

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, window: int | None
    ) -> tuple[ExampleCache, tuple[Refusal, ...]]:
        """All that the run will use, rendered and encoded, and the rows refused on the way.

        ``window`` is the longest text that the model can read, or None if it has no bound.
        """
        return encoded_rows(self.config, self.rows, self.trained, tokenizer, window)


def prepare(config: TrainConfig, *, trunk: Path | None = None) -> Preparation:
    """Load and check conversations and formats.

    A branch, whose folder or ``trunk`` says so, has the controls of its tree's first run. Raises
    HarnessError for unknown names, and when a family is both trained and held out.
    """
    config, controls = _controls_before(config, trunk)
    rows = read_training_rows(
        config.data,
        answered=config.objective.answers != "self",
        trunks_controls=controls,
    )
    if config.stopping.max_recall_excess is not None and not rows.controls:
        raise HarnessError(
            "stopping.max_recall_excess needs controls, and none of these rows is set aside",
            hint="set data.controls to a number, such as a tenth of the rows",
        )
    known = load_formats(*map(Path, config.formats.formats_dir))
    config = _with_own_template(config, known)
    held_out = known.select(config.formats.held_out)
    families = {excluded.family for excluded in held_out}
    named = known.select(
        [
            name
            for name in config.formats.train
            if name in known or name.startswith("grammar:") or name.endswith(".jinja")
        ]
    )
    both = sorted({chosen.family for chosen in named} & families)
    if both:
        drawn = both[0].startswith("grammar")
        raise HarnessError(
            f"formats.held_out: the family {both[0]!r} is also trained",
            hint="split=train and split=test" if drawn else "hold out whole families",
        )
    trained = [
        chosen for chosen in known.select(config.formats.train) if chosen.family not in families
    ]
    if not trained:
        raise HarnessError("formats.train: nothing is left to train in")
    return Preparation(config, rows, tuple(trained), tuple(held_out), tuple(known.values()))


def _with_own_template(config: TrainConfig, known: FormatSet) -> TrainConfig:
    """``native`` among the trained formats is the model's own template, or the format it equals."""
    names = config.formats.train
    if NATIVE not in names or NATIVE in known:
        return config
    from harness.models import load_tokenizer, locate

    found = native_format(load_tokenizer(locate(config.model)), known.values())
    if found is None:
        raise HarnessError(
            "formats.train: native: the model has no chat template that can be kept",
            hint="name a format: harness formats list",
        )
    known.add(found)
    train = tuple(found.id if name == NATIVE else name for name in names)
    return replace(config, formats=replace(config.formats, train=train))


def _controls_before(
    config: TrainConfig, trunk: Path | None
) -> tuple[TrainConfig, Sequence[Conversation] | None]:
    """The controls that an earlier run of the tree set aside; None where the run sets them aside.

    A folder that was begun before data.controls has none.
    """
    folder = trunk or Path(config.output_dir)
    recorded = read_run_metadata(folder)
    if recorded is None:
        return config, None
    if trunk or recorded.branch:
        return config, read_controls(root_of(folder)) or ()
    if "controls" not in recorded.config.get("data", {}):
        config = replace(config, data=replace(config.data, controls=0))
    return config, None


def run_digest(
    ready: Preparation, base_digest: str, branch: Branch | None = None, *, model: str | None = None
) -> str:
    """A digest of all that decides the weights: settings, data, formats, base, and branch point.

    With ``model``, the digest that earlier versions gave a run: it held the base's name or path,
    and the settings that are removed by now.
    """
    facts = parse_config(ready.config.as_dict()).as_dict()  # as from a file: 8 and 8.0 are equal
    for key in ("output_dir", "evaluation", "checkpoints", "auto_branch", "stopping", "tracking"):
        del facts[key]
    for key in ("max_tokens_per_batch", "gradient_checkpointing", "fsdp"):
        del facts["optimisation"][key]
    del facts["data"]["train"], facts["data"]["controls"]  # the rows say what they decided
    if ready.config.loss == LossConfig():  # runs that are older than the section have none
        del facts["loss"]
    if not ready.config.data.forged_turns:  # likewise
        del facts["data"]["forged_turns"]
    if not ready.config.objective.teacher_folds:
        del facts["objective"]["teacher_folds"], facts["objective"]["teacher_epochs"]
    if model is None:
        del facts["model"]
    else:
        facts = with_removed(facts) | {"model": model}
    data = [
        [
            c.id,
            c.plain,
            [[m.role, m.content, m.name, m.weight, *thought_and_calls(m)] for m in c.messages],
            *([[tool.definition for tool in c.tools]] if c.tools else []),
        ]
        for c in ready.conversations
    ]
    sets = row_sets(ready.conversations, ready.rows.set_of, ready.rows.weights)
    parts: list[Any] = [
        facts,
        data,
        [[chosen.rows, chosen.repeats] for chosen in sets],
        [trained.digest for trained in ready.trained],
        base_digest,
    ]
    if branch:
        parts.append({**asdict(branch), "parent": None})
    stamp = json.dumps(parts, sort_keys=True)
    return "sha256:" + hashlib.sha256(stamp.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def identify(
    ready: Preparation, recorded: RunMetadata | None, base_digest: str
) -> tuple[Preparation, str]:
    """The run and its digest.

    A folder of an earlier version keeps its digest, and with it the name of the base.
    """
    branch = recorded.branch if recorded else None
    if recorded:
        model = recorded.config.get("model", "")
        if recorded.digest == run_digest(ready, base_digest, branch, model=model):
            return replace(ready, config=replace(ready.config, model=model)), recorded.digest
    return ready, run_digest(ready, base_digest, branch)


def config_of_run(run: Path) -> TrainConfig:
    """The settings that run.json records, with the folder where the run is now."""
    config = parse_recorded(require_run_metadata(run).config, str(run / RUN_FILE))
    return replace(config, output_dir=str(run))


def metadata_of_run(ready: Preparation, digest: str, branch: Branch | None = None) -> RunMetadata:
    """What run.json records of a run."""
    return RunMetadata(
        digest,
        tuple(trained.id for trained in ready.trained),
        tuple(sorted({trained.family for trained in ready.trained})),
        tuple(excluded.id for excluded in ready.held_out),
        ready.config.as_dict(),
        str(Path.cwd()),
        {**_counts(ready.conversations), "controls": len(ready.rows.controls)},
        branch,
    )


def with_expected_answers(ready: Preparation, run: Path) -> Preparation:
    """The run with the conversations that it learns from, before its model is loaded.

    Answers of the model's own are read from ``run`` if they are there. Otherwise each is replaced
    by a text of the longest permitted length.
    """
    goal = ready.config.objective
    if goal.answers == "given":
        return ready
    from harness.training.distill.self_answers import ANSWERS_FILE, expected_answers

    answers = expected_answers(
        run / ANSWERS_FILE, ready.conversations, goal.prompts, goal.max_new_tokens
    )
    return with_answers(ready, answers)


def with_answers(ready: Preparation, answers: Sequence[Conversation]) -> Preparation:
    """The run with the model's own answers in place of the given ones, or beside them."""
    given = ready.conversations if ready.config.objective.answers == "both" else ()
    return replace(ready, rows=replace(ready.rows, conversations=(*given, *answers)))


def plan_of(ready: Preparation, run: Path) -> TrainingPlan:
    """The steps of a run, before its model is loaded; ``run`` may hold the model's own answers."""
    from harness.models import load_tokenizer, locate
    from harness.training.data.examples import make_plan

    ready = with_expected_answers(ready, run)
    source = locate(ready.config.model)
    cache, _ = ready.encode(load_tokenizer(source), context_window(read_config(source)))
    return make_plan(ready.config, cache)


def _counts(conversations: Sequence[Conversation]) -> dict[str, Any]:
    """How much data of which kind, for the model card: no text of it and no path."""
    sources = {c.source.rsplit(":", 1)[0] for c in conversations if c.source}
    lines = list(ThoughtsAndCalls.of(conversations).lines(places=False))
    return {
        **({"thoughts_and_calls": lines} if lines else {}),
        "conversations": len(conversations),
        "files": len(sources),
        "tags": dict(Counter(tag for c in conversations for tag in c.tags).most_common()),
    }
