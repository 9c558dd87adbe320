"""What another trainer's set-up trains of these rows, beside what we train of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.conversation import Conversation
from harness.data.conversations import Collection
from harness.data.readers import read_rows
from harness.errors import HarnessError
from harness.formats.adapt import adapt_to_format
from harness.formats.kept.keeping import keep_template
from harness.formats.render import render
from harness.formats.trainers.differences import Difference, differences
from harness.formats.trainers.trainer_config import TrainerConfig
from harness.formats.trainers.trainer_mask import ChatTemplate, TrainerMask
from harness.records import Format, Rendered
from harness.tokens.trainer_tokens import template_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RowComparison:
    """One row: what the trainer trains, what we train, and how that differs.

    ``ours`` is None where we cannot render the row; ``why`` says why.
    """

    place: str
    mask: TrainerMask
    ours: Rendered | None = None
    differences: tuple[Difference, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class TrainerComparison:
    """All rows that were compared. ``format`` is that of our rendering."""

    config: TrainerConfig
    format: str
    rows: tuple[RowComparison, ...]
    notes: tuple[str, ...] = ()

    def counts(self) -> Counter[str]:
        """In how many rows each kind of difference occurs, in the order of their first."""
        kinds = (dict.fromkeys(each.kind for each in row.differences) for row in self.rows)
        return Counter(kind for of_row in kinds for kind in of_row)


def compare_trainer(
    config: TrainerConfig,
    files: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    chat_format: Format | None = None,
    *,
    most: int = 1000,
) -> TrainerComparison:
    """Compare on the first ``most`` rows of these files.

    ``chat_format`` is the format in which both write the rows; by default it is the template that
    the configuration names, or else the tokenizer's, kept as it is. Raises HarnessError for files
    that cannot be read, and for a template that cannot be kept.
    """
    source = chat_format.template if chat_format else config.template
    template = template_of(tokenizer, source or None)
    if not source and not tokenizer.chat_template:
        raise HarnessError(
            "the tokenizer has no chat template, and the configuration names none",
            where=template.source,
            hint="name a format: --format",
        )
    notes = list(config.notes)
    if chat_format is None:
        kept = keep_template(
            template.source, "template", where=config.trainer, special_tokens=[*template.special]
        )
        chat_format, notes = kept.format, [*notes, *kept.findings]
    every = islice(_rows(files, most), most)
    rows = [_compared(config, template, chat_format, *each) for each in every]
    if not rows:
        raise HarnessError("no rows to compare", where=", ".join(files))
    notes += sorted({note for row in rows for note in row.mask.notes})
    return TrainerComparison(config, chat_format.id, tuple(rows), tuple(dict.fromkeys(notes)))


def _rows(
    files: Iterable[str], most: int
) -> Iterator[tuple[str, dict[str, Any], Conversation | str]]:
    """Up to ``most`` rows of each file with their place, and as we read them, or why we do not."""
    for name in files:
        collection = Collection()
        collection.read(name, most=most)
        read = {each.source: each for each in collection.conversations}
        refused = {each.place: each.message for each in collection.refusals}
        for _, rows in read_rows(name):
            for row in islice(rows, most):
                if row.value is not None:
                    ours = read.get(row.place) or refused.get(row.place, "not read")
                    yield row.place, row.value, ours


def _compared(
    config: TrainerConfig,
    template: ChatTemplate,
    chat_format: Format,
    place: str,
    row: dict[str, Any],
    ours: Conversation | str,
) -> RowComparison:
    mask = config.mask(template, row)
    if isinstance(ours, str) or ours.plain:
        found = _without_ours(mask, template)
        why = ours if isinstance(ours, str) else "a plain text, of which no part is an answer"
        return RowComparison(place, mask, None, found, why)
    try:
        adapted = adapt_to_format(ours, chat_format)
        rendered = render(
            adapted, chat_format, bos_token=template.bos_token, eos_token=template.eos_token
        )
    except HarnessError as error:
        return RowComparison(place, mask, None, _without_ours(mask, template), error.message)
    found = tuple(differences(mask, rendered, adapted.messages, template.bos_token))
    return RowComparison(place, mask, rendered, found)


def _without_ours(mask: TrainerMask, template: ChatTemplate) -> tuple[Difference, ...]:
    """What can be said without our rendering."""
    empty = Rendered("", (), ())
    kinds = ("ends", "leaves the row out", "double BOS")
    return tuple(
        each for each in differences(mask, empty, (), template.bos_token) if each.kind in kinds
    )


def config_files(config: TrainerConfig, given: Iterable[str]) -> list[str]:
    """The files to compare on: those given, or those of the configuration that are here."""
    files = list(given) or [name for name in config.data if Path(name).exists()]
    if not files:
        named = f": {', '.join(config.data)} is not here" if config.data else ""
        raise HarnessError(f"no rows to compare on{named}", hint="name a file: --data rows.jsonl")
    return files
