"""What a run would do, at no cost: the tokenizer is loaded, the model is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.data.refusals import Refusal
from harness.models.added_tokens import with_tokens
from harness.models.architecture import context_window, read_config
from harness.models.device import total_bytes
from harness.records import Format, Rendered
from harness.training.config import TrainConfig
from harness.training.data.examples import Example, ExampleCache, even_batches, make_plan
from harness.training.data.folds import cut_into_folds, teacher_config, teacher_examples
from harness.training.data.mixing import Pair, RowSet
from harness.training.data.pass_sizes import PassSize, pass_sizes
from harness.training.data.training_rows import mark_lines
from harness.training.plan.format_findings import format_findings, thought_line
from harness.training.plan.memory_estimate import (
    ModelShape,
    Part,
    StepShape,
    Storage,
    estimate,
    mistral_7b,
    shape_of,
    total,
)
from harness.training.preparation import Preparation, prepare, with_expected_answers
from harness.training.schedules import Schedule
from harness.training.step.gradient_checkpointing import LARGEST_FRACTION
from harness.training.step.lora import missing_tokens
from harness.training.step.pass_budget import budgets, gains_by_size, largest_that_fits
from harness.training.step.passes import Pass, usual_budget
from harness.training.step.row_packing import RowPacking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLES = 3
CARD_BYTES = 12 * 2**30


@dataclass(frozen=True, slots=True)
class Memory:
    """An estimate of the peak memory on one device. ``has`` is what that device has, in bytes."""

    where: str
    checkpointing: bool
    parts: tuple[Part, ...]
    has: int | None

    @property
    def bytes(self) -> int:
        """The sum of the parts."""
        return total(self.parts)


@dataclass(frozen=True, slots=True)
class DryRun:
    """All that ``harness train --dry-run`` says.

    ``refused`` rows end a run unless ``starts``. ``samples`` are marked texts by format.
    ``targets`` say which weights get LoRA factors, and which do not. ``marks`` are control strings
    and rendered chats inside the rows. ``findings`` say, by format, what is wrong with training in
    it; ``dropped`` how many thoughts a format leaves out.
    """

    facts: dict[str, Any]
    sets: list[dict[str, Any]]
    refused: tuple[Refusal, ...]
    starts: bool
    formats: dict[str, dict[str, Any]]
    samples: dict[str, list[str]]
    memory: list[Memory]
    targets: list[str]
    marks: list[str]
    findings: dict[str, list[str]]
    dropped: list[str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        memory = [{**asdict(item), "bytes": item.bytes} for item in self.memory]
        return {
            **self.facts,
            "starts": self.starts,
            **{
                key: getattr(self, key)
                for key in ("sets", "formats", "samples", "targets", "marks", "findings", "dropped")
            },
            "refused": [asdict(r) for r in self.refused],
            "memory": memory,
        }


def dry_run(config: TrainConfig) -> DryRun:
    """Plan a run. Refused rows are listed even if they would end it."""
    from harness.models import load_tokenizer, locate

    lenient = replace(config, data=replace(config.data, on_refuse="skip"))
    ready = with_expected_answers(prepare(lenient), Path(config.output_dir))
    source = locate(config.model)
    quantised = config.quantisation.load_in_4bit or config.quantisation.load_in_8bit
    shape, targets = shape_of(source, config.adapter, quantised=quantised)
    tokenizer = load_tokenizer(source)
    if config.adapter.train_control_tokens:
        tokenizer = with_tokens(tokenizer, missing_tokens(tokenizer, ready.trained))
    window = context_window(read_config(source))
    cache, refused = ready.encode(tokenizer, window)
    plan = make_plan(config, cache)
    schedule = Schedule(config.schedule, plan.total_steps)
    pairs = list(plan.pairs())
    examples = [cache(pair) for pair in pairs]
    facts = {
        "conversations": len(cache.conversations),
        "controls": len(ready.rows.controls),
        "schemas": dict(ready.rows.schemas),
        "ignored_keys": dict(ready.rows.ignored),
        "readings": dict(ready.rows.readings),
        "steps": plan.total_steps,
        "steps_per_epoch": plan.steps_by_epoch[0],
        **_teacher_steps(ready, cache.formats[0], tokenizer, window),
        "tokens": sum(len(example.encoded.ids) for example in examples),
        "supervised_tokens": sum(example.supervised for example in examples),
        "window": window,
        "longest": max(len(example.encoded.ids) for example in examples),
        "sum_lr": config.optimisation.learning_rate * schedule.summed(plan.total_steps),
        "held_out": [excluded.id for excluded in ready.held_out],
    }
    steps = range(plan.total_steps)
    all_refused = (*ready.rows.refused, *refused)
    by_format, samples = _by_format(cache, pairs)
    return DryRun(
        facts,
        _sets(config, ready, cache),
        all_refused,
        not all_refused or config.data.on_refuse == "skip",
        by_format,
        samples,
        memories(config, shape, [[cache(pair) for pair in plan.step(n)] for n in steps]),
        list(targets.lines()),
        mark_lines(ready.conversations),
        format_findings(ready.trained, tokenizer),
        _dropped(cache, by_format),
    )


def _teacher_steps(
    ready: Preparation,
    chat_format: Format,
    tokenizer: PreTrainedTokenizerBase,
    window: int | None,
) -> dict[str, list[int]]:
    """The optimiser steps of each teacher that is trained before the run; {} without any.

    They are counted in ``chat_format``: the native one is not known before the model is loaded, and
    changes the number only by rows that it refuses.
    """
    goal, steps = ready.config.objective, []
    if not goal.teacher_folds:
        return {}
    own = teacher_config(ready.config, chat_format.id, 1)
    for fold in cut_into_folds(ready.conversations, goal.teacher_folds, ready.config.seed):
        rows = teacher_examples(own, ready.rows, fold, chat_format, tokenizer, window)
        steps.append(make_plan(own, rows).total_steps)
    return {"teacher_steps": steps}


def _sets(config: TrainConfig, ready: Preparation, cache: ExampleCache) -> list[dict[str, Any]]:
    """Each set's rows, and their repeats per epoch; none where no row is left."""
    sets = []
    for number, source in enumerate(config.data.sources()):
        rows = [c for c in cache.conversations if ready.rows.set_of.get(c.id) == number]
        repeats = RowSet.weighted(range(len(rows)), source.weight).repeats if rows else 0
        sets.append(
            {
                "path": source.path,
                "rows": len(rows),
                "weight": source.weight,
                "draws_per_epoch": repeats,
            }
        )
    return sets


def _by_format(
    cache: ExampleCache, pairs: Sequence[Pair]
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Pairs, distinct rows, trained tokens and dropped thoughts of each format; first samples."""
    by_format: dict[str, list[Pair]] = {trained.id: [] for trained in cache.formats}
    for pair in pairs:
        by_format.setdefault(cache.format_of(pair).id, []).append(pair)
    counts = {
        format_id: {
            "pairs": len(its_pairs),
            "rows": len({row for row, _ in its_pairs}),
            "supervised_tokens": sum(cache(pair).supervised for pair in its_pairs),
            "parts": _parts(cache(pair) for pair in its_pairs),
            **_thoughts(cache, dict.fromkeys(its_pairs)),
        }
        for format_id, its_pairs in by_format.items()
    }
    samples = {
        format_id: [
            marked(cache.rendered(pair)) for pair in islice(dict.fromkeys(its_pairs), SAMPLES)
        ]
        for format_id, its_pairs in by_format.items()
    }
    return counts, samples


def _parts(examples: Iterable[Example]) -> dict[str, int]:
    """Supervised tokens by part."""
    counts = Counter[str]()
    for example in examples:
        for part, tokens in example.parts:
            counts[part] += tokens
    return dict(counts)


def _dropped(cache: ExampleCache, counts: dict[str, dict[str, Any]]) -> list[str]:
    reasoning = {each.id: each.reasoning if each.thinks else "none" for each in cache.formats}
    lines = (
        thought_line(format_id, count, reasoning.get(format_id, ""))
        for format_id, count in counts.items()
    )
    return list(filter(None, lines))


def _thoughts(cache: ExampleCache, pairs: Iterable[Pair]) -> dict[str, int]:
    """How many thoughts distinct rows have, and how many the format does not write."""
    thoughts = dropped = 0
    for pair in pairs:
        messages = cache.conversations[pair[0]].messages
        thoughts += sum(bool((each.reasoning or "").strip()) for each in messages)
        dropped += cache(pair).dropped
    return {"thoughts": thoughts, "thoughts_dropped": dropped} if thoughts else {}


def marked(rendered: Rendered) -> str:
    """The text with ‹ › around what is trained."""
    weights, context = rendered.weights, frozenset(rendered.context)
    parts = []
    for at, span in enumerate(rendered.spans):
        text = rendered.text[span.start : span.end]
        weight = weights[span.message] if weights and span.message >= 0 else 1.0
        parts.append(f"‹{text}›" if span.trained and weight > 0 and at not in context else text)
    return "".join(parts).replace("›‹", "")


def memories(
    config: TrainConfig, model: ModelShape, steps: Sequence[Sequence[Example]]
) -> list[Memory]:
    """The estimate for this machine, and for a 7B model in nf4 on a 12 GB card.

    Each with and without gradient checkpointing, of the passes that a run takes there.
    """
    from harness.models import pick_device, pick_dtype

    device = pick_device()
    dtype = pick_dtype(device) if config.dtype == "auto" else config.dtype
    here = StepShape(
        _storage(config, dtype),
        4 if dtype == "float32" else 2,
        config.adapter.lora_r,
        config.optimisation.optim,
        0,
        0,
        config.adapter.lora_dropout > 0,
        config.adapter.use_dora,
        device=device,
    )
    card = replace(here, storage="nf4 with double quantisation", compute_bytes=2, device="cuda")
    machine = f"this machine ({device}, {here.storage})"
    devices = (
        (machine, model, here, total_bytes(device)),
        ("a 12 GB card (7B, nf4)", mistral_7b(config.adapter), card, CARD_BYTES),
    )
    found = []
    for name, shape, step, has in devices:
        by_budget = _by_budget(config.optimisation.max_tokens_per_batch, step.device, steps)
        for on in (False, True):
            parts = _peak(shape, replace(step, checkpointing=on), by_budget, has)
            found.append(Memory(name, on, parts, has))
    return found


#: Budgets of tokens a pass, each with the sizes of the passes that it leads to.
ByBudget = dict[int, frozenset[PassSize]]


def _by_budget(
    setting: int | Literal["auto"], device: str, steps: Sequence[Sequence[Example]]
) -> ByBudget:
    """What a run on a device chooses from: one budget, or several on a GPU where none is set.

    Rows are laid end to end, as they are for any model whose attention allows it; without a model
    nothing more is known.
    """
    known = [usual_budget(setting)]
    if setting == "auto" and gains_by_size(device):
        known = budgets(max((sum(len(e.encoded.ids) for e in step) for step in steps), default=1))
    return {budget: pass_sizes(steps, partial(_sizes, budget)) for budget in known}


def _sizes(budget: int, step: Sequence[Example]) -> list[PassSize]:
    """The passes of a step whose rows are laid end to end."""
    return [Pass(rows, RowPacking("bounds")).size for rows in even_batches(step, budget)]


def _peak(
    shape: ModelShape, step: StepShape, by_budget: ByBudget, has: int | None
) -> tuple[Part, ...]:
    """The estimate of the pass that needs most, cut as ``fit_passes`` cuts: as large as fits."""

    def parts(size: PassSize) -> tuple[Part, ...]:
        return estimate(shape, replace(step, tokens=size.tokens, supervised=size.supervised))

    def kept(size: PassSize) -> int:
        return total(parts(size)) - fixed

    fixed = total(parts(PassSize(0, 0, 0)))
    room = LARGEST_FRACTION * ((has or 0) - fixed)
    budget, _ = largest_that_fits(by_budget, kept, room)
    return max(map(parts, by_budget[budget]), key=total, default=parts(PassSize(0, 0, 0)))


def _storage(config: TrainConfig, dtype: str) -> Storage:
    quantisation = config.quantisation
    if quantisation.load_in_4bit:
        double = quantisation.bnb_4bit_use_double_quant
        return "nf4 with double quantisation" if double else "nf4"
    return "int8" if quantisation.load_in_8bit else dtype  # type: ignore[return-value]  # a dtype's name is a storage's
