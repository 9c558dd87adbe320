"""harness train --init: write a commented recipe from flags, or from answers on a terminal."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from harness.cli.arguments import refuse_existing
from harness.cli.main import program
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError
from harness.files import write_text
from harness.formats import load_formats
from harness.training.config import TrainConfig, parse_config
from harness.training.config.recipe_text import commented_toml

DEFAULT_FILE = "run.toml"


def write_recipe(file: Path, config: TrainConfig, *, force: bool, as_json: bool) -> int:
    """Write the recipe, and print what to run next. Raises HarnessError for an unknown format.

    On a terminal the settings that no flag has changed are asked for.
    """
    if file.suffix != ".toml":
        raise HarnessError(f"--init writes a TOML file, not {str(file)!r}", hint="such as run.toml")
    refuse_existing(file, force=force)
    if _on_a_terminal() and not as_json:
        config = _ask(config)
    config = parse_config(config.as_dict(), where="answers")
    known = load_formats(*map(Path, config.formats.formats_dir))
    known.select(config.formats.train)
    known.select(config.formats.held_out)
    write_text(file, commented_toml(config))
    command = f"{program()} train {shlex.quote(str(file))} --dry-run"
    if as_json:
        print_json({"recipe": str(file), "next": command})
    else:
        print(f"wrote {file}")
        print(f"next: {command}")
    return EXIT_OK


def _on_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(config: TrainConfig) -> TrainConfig:
    """Ask for what most runs decide on; an empty answer keeps what is in brackets."""
    usual = TrainConfig()
    print("An empty answer takes what is in brackets.", file=sys.stderr)
    if config.model == usual.model:
        config = replace(config, model=_answer("Model: folder, hub id or GGUF file", config.model))
    if config.data.train == usual.data.train:
        rows = _answer("Training data: files or folders, with spaces between", "the shipped set")
        train = () if rows == "the shipped set" else tuple(shlex.split(rows))
        config = replace(config, data=replace(config.data, train=train))
    formats = config.formats
    if formats.train == usual.formats.train:
        words = _answer("Formats to train in: ids, globs or common", " ".join(formats.train))
        formats = replace(formats, train=tuple(words.replace(",", " ").split()))
    if formats.held_out == usual.formats.held_out:
        words = _answer("Formats to measure in and never to train in", "none")
        held_out = () if words == "none" else tuple(words.replace(",", " ").split())
        formats = replace(formats, held_out=held_out)
    quantisation = config.quantisation
    if quantisation == usual.quantisation:
        four = _answer("Store the base in four bits, on a GPU (QLoRA)? yes or no", "no")
        quantisation = replace(quantisation, load_in_4bit=four.lower() in ("y", "yes"))
    folder = config.output_dir
    if folder == usual.output_dir:
        folder = _answer("Folder of the run", folder)
    return replace(config, formats=formats, quantisation=quantisation, output_dir=folder)


def _answer(question: str, default: str) -> str:
    print(f"{question} [{default}]: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise HarnessError("the answers ended early", hint="give flags instead: --model MODEL")
    return line.strip() or default
