"""harness data check, convert, answers and canaries."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from harness.cli.arguments import parse
from harness.data.schemas import SchemaName
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError


@dataclass(frozen=True)
class DataCheckOptions:
    files: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Conversation files or folders. Empty: the shipped training set."""
    cases: tuple[str, ...] = ()
    """Evaluation cases that must not be in the data. Empty: the shipped ones."""
    expect_language: str = "en"
    """Language of the answers."""
    longest: int = 8000
    """Characters of the longest conversation."""
    json: bool = False
    """Print JSON."""


def check(args: list[str]) -> int:
    """Find bad rows, duplicates, canned phrases, other languages, over-long rows and overlap with the evaluation."""
    options = parse(
        DataCheckOptions,
        args,
        "data check",
        "Find mistakes in a training set. Exit code 1 when there are any.",
    )
    from harness.data.check import check_files
    from harness.evaluation.cases.case_files import load_cases
    from harness.resources import data_dir

    files = list(options.files) or [str(data_dir("trainset"))]
    conversations, findings = check_files(
        files, load_cases(options.cases), expect=options.expect_language, longest=options.longest
    )
    if options.json:
        print(
            json.dumps(
                {
                    "conversations": len(conversations),
                    "findings": [asdict(finding) for finding in findings],
                },
                indent=1,
                ensure_ascii=False,
            )
        )
        return EXIT_FINDINGS if findings else EXIT_OK
    for finding in findings:
        print(f"{finding.place}: {finding.kind}: {finding.message}")
    tags = Counter(tag for conversation in conversations for tag in conversation.tags[:1])
    print(
        f"{len(conversations)} conversations ({', '.join(f'{count} {tag}' for tag, count in sorted(tags.items()))}), {len(findings)} findings"
    )
    return EXIT_FINDINGS if findings else EXIT_OK


@dataclass(frozen=True)
class CanariesOptions:
    out: Annotated[str, tyro.conf.Positional]
    """Folder for canaries.jsonl (add it to your training set) and canaries-null.jsonl (never train on it)."""
    n: int = 16
    """Secrets to train on."""
    null: int = 127
    """Secrets never trained on: as many as the bits of exposure ask for (127 give up to 7 bits)."""
    copies: tuple[int, ...] = (1,)
    """How often a secret stands in the file, in turn (1 4 16)."""
    seed: int = 0
    """Another seed, other secrets."""
    force: bool = False
    """Replace files that are there."""


def canaries(args: list[str]) -> int:
    """Write canaries: secrets that only memory can know."""
    options = parse(
        CanariesOptions,
        args,
        "data canaries",
        "Write secrets to train on, and others of the same form to compare them with.",
    )
    from harness.metrics.canaries import make_canaries

    try:
        sets = {
            "canaries.jsonl": make_canaries(options.n, options.seed, copies=options.copies),
            "canaries-null.jsonl": make_canaries(options.null, options.seed, trained=False),
        }
    except ValueError as error:
        raise HarnessError(str(error)) from None
    folder = Path(options.out)
    for name, rows in sets.items():
        if (folder / name).exists() and not options.force:
            raise HarnessError(
                "the file is there already", where=str(folder / name), hint="--force replaces it"
            )
        text = "".join(
            json.dumps(
                {
                    "id": row.id,
                    "messages": [{"role": m.role, "content": m.content} for m in row.messages],
                    "tags": list(row.tags),
                }
            )
            + "\n"
            for row in rows
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise HarnessError(
                f"cannot write: {error.strerror}", where=str(folder / name)
            ) from None
        print(f"{folder / name}: {len(rows)} rows")
    print(
        f"next: harness eval MODEL --adapter ADAPTER --recall --train {folder / 'canaries.jsonl'} --twins {folder / 'canaries-null.jsonl'} --recall-examples {options.null}"
    )
    return EXIT_OK


@dataclass(frozen=True)
class ConvertOptions:
    source: Annotated[str, tyro.conf.Positional]
    """A file (.jsonl, .json, .parquet), a folder of them, or a data set of the hub (owner/name)."""
    to: Literal["messages"] = "messages"
    """The schema to write. A plain text stays one."""
    out: str = ""
    """File to write; standard output without it."""
    schema: SchemaName = "auto"
    """How the rows are written; seen from the first row of each file."""
    split: str = "train"
    """Which split of a data set of the hub."""
    force: bool = False
    """Replace a file that is there."""


def convert(args: list[str]) -> int:
    """Write conversations of any known schema as JSON lines of messages. Exit code 1 when rows were refused."""
    options = parse(
        ConvertOptions,
        args,
        "data convert",
        "Write ShareGPT, Alpaca, prompt/completion or text rows as JSON lines of messages.",
    )
    from harness.data.conversations import Collection, as_row
    from harness.data.refusals import summarise_refusals

    collection = Collection()
    collection.read(options.source, options.schema, options.split)
    text = "".join(
        json.dumps(as_row(conversation), ensure_ascii=False) + "\n"
        for conversation in collection.conversations
    )
    if options.out:
        out = Path(options.out)
        if out.exists() and not options.force:
            raise HarnessError(
                "the file is there already", where=options.out, hint="--force replaces it"
            )
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise HarnessError(f"cannot write: {error.strerror}", where=options.out) from None
    else:
        print(text, end="")
    for refusal in collection.refusals:
        print(f"{refusal.place}: {refusal.reason}: {refusal.message}", file=sys.stderr)
    print(
        f"{len(collection.conversations)} conversations"
        + (f"; {summarise_refusals(collection.refusals)}" if collection.refusals else ""),
        file=sys.stderr,
    )
    return EXIT_FINDINGS if collection.refusals else EXIT_OK


@dataclass(frozen=True)
class AnswersOptions:
    files: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Conversation files or folders whose last questions are asked. Empty: the shipped training set."""
    model: str = "SmolLM2-135M-Instruct"
    """The model that answers, without any adapter."""
    out: str = "answers.jsonl"
    """The file to write: conversations that end with the model's answer."""
    prompts: int = 0
    """Ask at most so many, spread evenly. 0: all."""
    max_new_tokens: int = 64
    """Longest answer in tokens."""
    unfinished: bool = False
    """Keep answers that had not ended by then, tagged "unfinished". They can be distilled; learnt as they stand they teach to stop anywhere."""
    native: str = ""
    """Format to ask in. Empty: the one that equals the model's own chat template."""
    formats_dir: tuple[str, ...] = ()
    """Folders with further formats."""
    force: bool = False
    """Replace a file that is there."""


def answers(args: list[str]) -> int:
    """Let a model answer the last question of each conversation, greedily in its native format."""
    options = parse(
        AnswersOptions,
        args,
        "data answers",
        "Let a model answer the prompts of a training set in its native format.",
    )
    from harness.data.conversations import load_conversations
    from harness.formats import load_formats
    from harness.models import load
    from harness.resources import data_dir
    from harness.training.distill.self_answers import (
        check_prompts,
        own_answers,
        spread,
        write_conversations,
    )
    from harness.training.objective import native_format

    out = Path(options.out)
    if out.exists() and not options.force:
        raise HarnessError("the file is there already", where=str(out), hint="--force replaces it")
    prompts = spread(
        load_conversations(options.files or [str(data_dir("trainset"))]), options.prompts
    )
    check_prompts(prompts)
    loaded = load(options.model)
    native = native_format(
        load_formats(*map(Path, options.formats_dir)).values(), options.native, loaded
    )
    found = own_answers(
        loaded, prompts, native, options.max_new_tokens, unfinished=options.unfinished
    )
    write_conversations(out, found)
    print(
        f"{out}: {len(found)} of {len(prompts)} prompts answered in {native.id}; the others had not ended after {options.max_new_tokens} tokens or were empty"
    )
    print(f"next: harness data check {out}")
    return EXIT_OK
