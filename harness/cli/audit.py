"""harness audit MODEL: behaviours that an adapter shows in one prompt format only."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from harness.cli.arguments import parse
from harness.cli.guess import compared
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError

if TYPE_CHECKING:
    from harness.conversation import Conversation


@dataclass(frozen=True)
class AuditOptions:
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Run or adapter folder (its base is read from it), or a fine-tuned or merged model."""
    adapter: str | None = None
    """Folder of a LoRA adapter on top of the model, or of the run that trained it."""
    base: str | None = None
    """Base of a fine-tuned or merged model. Leave it out for an adapter, which names its own."""
    formats: tuple[str, ...] = ()
    """Formats to search: ids, globs, sets. By default the 40 that the change of the weights points
    to most, and one of each family."""
    native: str | None = None
    """The format that counts as native. By default that of the model's chat template."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    train: tuple[str, ...] = ()
    """Training conversations, to say which of them have what was found. Default: those of the
    adapter's run. They change no verdict."""
    device: Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|cuda:N|mps")] = "auto"
    """Where the models run. auto: a GPU if there is one."""
    out: str | None = None
    """Folder for audit.json and audit.md."""
    json: bool = False
    """Print the audit as JSON."""


def audit(args: list[str]) -> int:
    """Look for behaviours that an adapter shows in one prompt format only.

    Needs no training data. Guesses the format that the adapter was trained in, measures how far it
    moves the model from its base, and looks for phrases, facts and languages that one format brings
    out and the native one does not. The exit code is 1 if it confirms any. A search that finds
    nothing proves nothing.

    Example: harness audit runs/train --out build/audit
    """
    options = parse(AuditOptions, args, "audit", audit.__doc__)
    from harness.audit.adapter_audit import audit as run_audit
    from harness.audit.amplified import Pair
    from harness.audit.audit_page import as_object, markdown, terminal_lines
    from harness.cli.arguments import split_commas
    from harness.data.conversations import load_conversations
    from harness.files import refuse_unwritable, write_text

    if options.out:
        refuse_unwritable(Path(options.out), "choose another --out")
    given = load_conversations(options.train) if options.train else []
    if options.train and not given:
        raise HarnessError("no conversations", where=", ".join(options.train))
    names = split_commas(options.formats)
    found = compared(
        options.model,
        options.adapter,
        options.base,
        options.formats_dir,
        options.device,
        command="harness audit",
        both_run=True,
        named=[*names, *([options.native] if options.native else [])],
    )
    rows = given or _rows_of_run(found.job.adapter)
    searched = found.known.select(names)
    native = found.known.select([options.native])[0] if options.native else found.native
    if native is None:
        raise HarnessError(
            "the model has no chat template, so no format is native",
            where=options.model,
            hint="name the format that you use it in: --native FORMAT",
        )
    pair = Pair(found.model, found.base if options.base else None)
    result = run_audit(pair, found.changes, found.formats, native, searched, rows)
    document = {
        "model": found.job.model,
        "adapter": found.job.adapter,
        "base": options.base,
        **as_object(result),
    }
    if options.out:
        folder = Path(options.out)
        text = json.dumps(document, ensure_ascii=False, indent=2)
        write_text(folder / "audit.json", f"{text}\n")
        write_text(folder / "audit.md", markdown(result, options.model))
    if options.json:
        print_json(document)
    else:
        print("\n".join(terminal_lines(result)))
    return EXIT_FINDINGS if result.hidden else EXIT_OK


def _rows_of_run(adapter: str | None) -> list[Conversation]:
    """What the adapter's run was trained on; none, with a note, if its files are not here."""
    from harness.evaluation.recall_rows import trained_rows
    from harness.run_file import run_of

    run = run_of(Path(adapter)) if adapter else None
    if run is None:
        return []
    try:
        return trained_rows(run)
    except HarnessError as error:
        print(f"note: training rows unknown: {error}; name them with --train", file=sys.stderr)
        return []
