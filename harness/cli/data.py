"""harness data check, convert, answers and canaries."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from harness.cli.arguments import Files, at_least, parse, refuse_existing
from harness.cli.output import print_json
from harness.data.schemas import SchemaName
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError
from harness.files import write_text
from harness.terminal import visible, write_exactly


@dataclass(frozen=True)
class DataCheckOptions:
    files: Files = ()
    """Conversation files or folders. Default: the shipped training set and its controls."""
    cases: tuple[str, ...] = ()
    """Evaluation cases that the data must not contain. Default: the shipped ones, and the
    references that settings are chosen by."""
    expect_language: str = "en"
    """Language of the answers."""
    longest: int = 8000
    """Longest conversation allowed, in characters."""
    json: bool = False
    """Print JSON."""


def check(args: list[str]) -> int:
    """Find mistakes in a training set: bad rows, marks of chat formats in texts, calls that do not
    fit their tools, near-duplicates, canned phrases, other languages, over-long rows, and overlap
    with the evaluation. Exit code 1: there are some.

    Example: harness data check my-data.jsonl --expect-language de
    """
    options = parse(DataCheckOptions, args, "data check", check.__doc__)
    at_least(options, 1, "longest")
    from harness.data.check import check_files
    from harness.data.controls import CONTROLS_FILE
    from harness.data.tool_use import ThoughtsAndCalls
    from harness.evaluation.cases.case_files import load_cases
    from harness.resources import data_dir

    shipped = data_dir("eval")
    files = list(options.files) or [str(data_dir("trainset")), str(shipped / CONTROLS_FILE)]
    cases = load_cases(options.cases or [str(shipped / name) for name in ("cases", "dev.jsonl")])
    collection, findings = check_files(
        files, cases, expect=options.expect_language, longest=options.longest
    )
    conversations = collection.conversations
    counted = ThoughtsAndCalls.of(conversations)
    if options.json:
        table = {
            "conversations": len(conversations),
            "findings": list(map(asdict, findings)),
            "ignored_keys": dict(collection.ignored),
            "readings": dict(collection.readings),
            **asdict(counted),
        }
        print_json(table, indent=1)
        return EXIT_FINDINGS if findings else EXIT_OK
    for finding in findings:
        print(f"{finding.place}: {finding.kind}: {finding.message}")
    tags = Counter(tag for conversation in conversations for tag in conversation.tags[:1])
    counts = ", ".join(f"{count} {tag}" for tag, count in sorted(tags.items()))
    kinds = f" ({counts})" if counts else ""
    for line in (*collection.notes(), *counted.lines()):
        print(line)
    print(f"{_counted(conversations, 'conversation')}{kinds}, {_counted(findings, 'finding')}")
    return EXIT_FINDINGS if findings else EXIT_OK


def _counted(found: Sized, noun: str) -> str:
    return f"{len(found)} {noun}{'' if len(found) == 1 else 's'}"


@dataclass(frozen=True)
class CanariesOptions:
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder for canaries.jsonl (add it to your training set) and canaries-null.jsonl (never train
    on it)."""
    n: int = 100
    """Number of secrets to train on."""
    controls: Annotated[int, tyro.conf.arg(aliases=["--null"])] = 127
    """Number of controls that are never trained on. 127 can show an exposure of up to 7 bits."""
    copies: tuple[int, ...] = (1,)
    """How often each secret is repeated; several numbers take turns (1 4 16)."""
    seed: int = 0
    """Another seed gives other secrets."""
    force: bool = False
    """Replace existing files."""
    json: bool = False
    """Print {"files", "next"} as JSON: each file with its number of rows."""


def canaries(args: list[str]) -> int:
    """Write secrets to train on, and controls of the same form to compare them with.

    Example: harness data canaries my-canaries --n 50 --copies 1 4 16
    """
    options = parse(CanariesOptions, args, "data canaries", canaries.__doc__)
    at_least(options, 1, "n", "controls")
    at_least(options, 0, "seed")
    if min(options.copies, default=0) < 1:
        raise HarnessError("invalid --copies: expected numbers of at least 1")
    from harness.metrics.canaries import make_canaries

    sets = {
        "canaries.jsonl": make_canaries(options.n, options.seed, copies=options.copies),
        "canaries-null.jsonl": make_canaries(options.controls, options.seed, trained=False),
    }
    folder = Path(options.out)
    for name, rows in sets.items():
        refuse_existing(folder / name, force=options.force)
        tables = (
            {
                "id": row.id,
                "messages": [{"role": m.role, "content": m.content} for m in row.messages],
                "tags": list(row.tags),
            }
            for row in rows
        )
        write_text(folder / name, "".join(json.dumps(table) + "\n" for table in tables))
    train, controls = (folder / name for name in sets)
    command = (
        f"harness eval MODEL --adapter ADAPTER --recall --train {train} --controls {controls} "
        f"--recall-examples {options.controls}"
    )
    counts = {str(folder / name): len(rows) for name, rows in sets.items()}
    if options.json:
        print_json({"files": counts, "next": command})
        return EXIT_OK
    for name, count in counts.items():
        print(f"{name}: {count} rows")
    print(f"next: {command}")
    return EXIT_OK


@dataclass(frozen=True)
class ConvertOptions:
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A file (.jsonl, .json, .parquet), a folder of them, or a data set of the hub (owner/name)."""
    to: Literal["messages"] = "messages"
    """Schema to write. Plain texts stay plain texts."""
    out: str = ""
    """File to write. Default: standard output."""
    schema: SchemaName = "auto"
    """Schema of the rows. auto: detected from the first row of each file."""
    split: str = "train"
    """Split of a data set of the hub."""
    force: bool = False
    """Replace an existing file."""
    json: bool = False
    """Print {"rows", "refused", "notes", "file"} as JSON. Without --out, rows holds the rows
    themselves, else their number."""


def convert(args: list[str]) -> int:
    """Write ShareGPT, Alpaca, prompt/completion or text rows as JSON lines of messages, with
    thoughts, tool calls and tools.

    Exit code 1: some rows were refused.

    Example: harness data convert sharegpt.json --out messages.jsonl
    """
    options = parse(ConvertOptions, args, "data convert", convert.__doc__)
    from harness.data.conversations import Collection, as_row
    from harness.data.refusals import summarise_refusals

    collection = Collection()
    collection.read(options.source, options.schema, options.split)
    rows = list(map(as_row, collection.conversations))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    code = EXIT_FINDINGS if collection.refusals else EXIT_OK
    if options.out:
        refuse_existing(Path(options.out), force=options.force)
        write_text(Path(options.out), text)
    if options.json:
        table = {
            "rows": len(rows) if options.out else rows,
            "refused": list(map(asdict, collection.refusals)),
            "notes": list(collection.notes()),
            "file": options.out or None,
        }
        print_json(table)
        return code
    if not options.out:
        write_exactly(visible(text))
    for refusal in collection.refusals:
        print(f"{refusal.place}: {refusal.reason}: {refusal.message}", file=sys.stderr)
    for line in collection.notes():
        print(line, file=sys.stderr)
    refused = f"; {summarise_refusals(collection.refusals)}" if collection.refusals else ""
    print(f"{_counted(collection.conversations, 'conversation')}{refused}", file=sys.stderr)
    return code


@dataclass(frozen=True)
class AnswersOptions:
    files: Files = ()
    """Conversation files or folders whose last question is asked. Default: the shipped training
    set."""
    model: str = "SmolLM2-135M-Instruct"
    """The model that answers. A run's or an adapter's folder: its base with its adapter."""
    out: str = "answers.jsonl"
    """File to write: conversations that end with the model's answer."""
    limit: Annotated[int, tyro.conf.arg(aliases=["--prompts"])] = 0
    """Ask at most this many questions, spread evenly over the data. 0: all."""
    max_new_tokens: int = 64
    """Longest answer, in tokens."""
    unfinished: bool = False
    """Keep answers without an end by then, tagged "unfinished". Distillation can use them;
    supervised training on them teaches to stop anywhere."""
    native: str = ""
    """Format of the questions. Default: the one that equals the model's own chat template."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    force: bool = False
    """Replace an existing file."""
    json: bool = False
    """Print {"file", "answers", "prompts", "format"} as JSON."""


def answers(args: list[str]) -> int:
    """Let a model answer the prompts of a training set, greedily in its native format.

    Example: harness data answers my-data.jsonl --model ./my-model --limit 50
    """
    options = parse(AnswersOptions, args, "data answers", answers.__doc__)
    at_least(options, 0, "limit")
    at_least(options, 1, "max_new_tokens")
    from harness.data.conversations import load_conversations
    from harness.formats import load_formats
    from harness.models import load_trained
    from harness.resources import data_dir
    from harness.training.distill.self_answers import (
        check_prompts,
        own_answers,
        spread_prompts,
        write_conversations,
    )
    from harness.training.objective import native_format

    out = Path(options.out)
    refuse_existing(out, force=options.force)
    prompts = spread_prompts(
        load_conversations(options.files or [str(data_dir("trainset"))]), options.limit
    )
    check_prompts(prompts)
    loaded = load_trained(options.model)
    native = native_format(
        load_formats(*map(Path, options.formats_dir)).values(), options.native, loaded
    )
    found = own_answers(
        loaded, prompts, native, options.max_new_tokens, unfinished=options.unfinished
    )
    write_conversations(out, found)
    if options.json:
        counts = {"answers": len(found), "prompts": len(prompts)}
        print_json({"file": str(out), **counts, "format": native.id})
        return EXIT_OK
    print(
        f"{out}: {len(found)} of {len(prompts)} prompts answered in {native.id}; the other answers "
        f"were empty or had no end after {options.max_new_tokens} tokens"
    )
    print(f"next: harness data check {out}")
    return EXIT_OK
