"""harness formats guess MODEL: which prompt format a model was trained in."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from harness.cli.arguments import parse
from harness.cli.output import print_json
from harness.errors import EXIT_OK, HarnessError

if TYPE_CHECKING:
    import torch

    from harness.audit.changes import LayerChange
    from harness.audit.guess import Candidate
    from harness.evaluation.settings import EvalJob
    from harness.formats import FormatSet
    from harness.models import LoadedModel
    from harness.records import Format

#: Formats of the likeliest family that are printed.
_SHOWN = 5


@dataclass(frozen=True)
class GuessOptions:
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Run or adapter folder (its base is read from it), or a fine-tuned or merged model."""
    adapter: str | None = None
    """Folder of a LoRA adapter on top of the model, or of the run that trained it."""
    base: str | None = None
    """Base of a fine-tuned or merged model. Leave it out for an adapter, which names its own."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    device: Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|cuda:N|mps")] = "auto"
    """Where the model runs. auto: a GPU if there is one."""
    json: bool = False
    """Print all candidates as JSON."""


def guess(args: list[str]) -> int:
    """Guess which prompt format an adapter or a merged model was trained in.

    Compares its weights with those of its base: training changes them most for the header before
    every answer. No text is generated.

    Example: harness formats guess runs/train
    """
    options = parse(GuessOptions, args, "formats guess", guess.__doc__)
    from harness.audit.guess import families_of, guess_format, is_clear

    pair = compared(
        options.model,
        options.adapter,
        options.base,
        options.formats_dir,
        options.device,
        command="harness formats guess",
    )
    job, native = pair.job, pair.native
    found = guess_format(pair.base, pair.changes, pair.formats, native.id if native else None)
    if options.json:
        facts = {"model": job.model, "adapter": job.adapter, "base": options.base}
        families = families_of(found)
        guessed = {"clear": is_clear(families), "families": [asdict(one) for one in families]}
        print_json({**facts, **guessed, "formats": found_rows(found)})
        return EXIT_OK
    words = ["harness", "eval", options.model]
    words += ["--adapter", options.adapter] if options.adapter else []
    words += [f"--formats-dir={folder}" for folder in options.formats_dir]
    print("\n".join(lines(found, native.id if native else None, shlex.join(words))))
    return EXIT_OK


@dataclass(frozen=True)
class ComparedModels:
    """A fine-tuned model, its base, and what differs; ``base`` is ``model`` for an adapter.

    ``native`` is the format of the model's chat template, if it has one.
    """

    job: EvalJob
    model: LoadedModel
    base: LoadedModel
    changes: dict[torch.nn.Module, LayerChange]
    known: FormatSet
    native: Format | None

    @property
    def formats(self) -> list[Format]:
        """All known formats and the native one, if there is any."""
        native = [self.native] if self.native and self.native.id not in self.known else []
        return [*self.known.values(), *native]


def compared(
    name: str,
    adapter: str | None,
    base: str | None,
    formats_dir: tuple[str, ...],
    device: str,
    *,
    command: str,
    both_run: bool = False,
    named: Sequence[str] = (),
) -> ComparedModels:
    """Load a model and its base. Of a merged model only the base runs, unless ``both_run``.

    Raises HarnessError unless there are two models to compare, and for an unknown format among
    ``named``.
    """
    from harness.audit.changes import adapter_changes, merge_changes
    from harness.evaluation.format_groups import native_format
    from harness.evaluation.settings import EvalJob
    from harness.formats import load_formats
    from harness.models import load, locate, pick_dtype
    from harness.models.device import check_device

    job = EvalJob(name, adapter=adapter, formats_dirs=formats_dir, device=device).with_run(command)
    _check(job.adapter, name, base)
    known = load_formats(*map(Path, job.formats_dirs))
    known.select(named)
    if base is None:
        model = below = load(
            job.model, adapter=job.adapter, device=job.device, quantisation=job.quantisation
        )
        changes = adapter_changes(model)
    else:
        for each in (job.model, base):
            locate(each)
        dtype = pick_dtype(check_device(job.device))
        model = load(job.model, dtype=dtype, device=job.device if both_run else "cpu")
        below = load(base, dtype=dtype, device=job.device)
        changes = merge_changes(model, below)
    native = native_format(model.tokenizer, known.values())
    return ComparedModels(job, model, below, changes, known, native)


def _check(adapter: str | None, name: str, base: str | None) -> None:
    """Raise HarnessError unless there are two models to compare."""
    if adapter is None and base is None:
        from harness.models import locate

        if not (Path(name) / "config.json").is_file():
            locate(name)  # says so if there is no such model at all, without reading its weights
        raise HarnessError(
            "nothing to compare the model with",
            where=name,
            hint="give the model that it was made from: --base MODEL; "
            "or compare its chat template: harness formats detect",
        )
    if adapter is not None and base is not None:
        raise HarnessError(
            "--base is for models without an adapter",
            hint="leave it out: an adapter names its own base",
        )


def found_rows(found: list[Candidate]) -> list[dict[str, object]]:
    """The candidates for JSON."""
    return [
        {"formats": one.formats, "family": one.family, "response": round(one.response, 4)}
        for one in found
    ]


def lines(found: list[Candidate], native: str | None, command: str) -> list[str]:
    """The guess with its probability, the runner-up, and the next command."""
    from harness.audit.guess import families_of, in_words, is_clear

    families = families_of(found)
    of_family = [one for one in found if one.family == families[0].family][:_SHOWN]
    alike = [name for one in of_family for name in one.formats]
    clear = is_clear(families)
    text = [in_words(families)]
    if clear:
        if len(alike) > 1:
            text.append(f"likeliest of the family: {', '.join(alike[:_SHOWN])}")
        if native and native not in alike:
            text.append(f"its chat template is {native}")
    shown = [one.format for one in families[: 1 if clear else 3]]
    compared = ",".join(dict.fromkeys([*shown, *([native] if native else [])]))
    return [*text, "", f"next: {command} --formats {compared}"]
