"""harness ship: make what each runtime needs, and check it against what was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from harness.cli.arguments import parse, split_commas
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError, nearest

if TYPE_CHECKING:
    from harness.ship import Runtime, Shipment


@dataclass(frozen=True)
class ShipOptions:
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|MODEL")]
    """Folder of a run or of an adapter, or a model: folder, hub id, or SmolLM2-135M-Instruct."""
    out: str
    """New folder for the artefacts."""
    format_id: Annotated[str, tyro.conf.arg(name="format")]
    """Id of the prompt format that becomes the chat template."""
    to: Annotated[str, tyro.conf.arg(metavar="RUNTIME,…")] = "hf"
    """Runtimes to make files for: hf, vllm, llamacpp, ollama, separated by commas."""
    adapter: str | None = None
    """An adapter to merge into the model."""
    quantize: Annotated[str, tyro.conf.arg(metavar="TYPE,…")] = "Q8_0"
    """Types of the GGUF files by llama.cpp's names, separated by commas. Its converter writes F32,
    F16, BF16 and Q8_0; others such as Q4_K_M need its quantiser."""
    llama_cpp: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """A checkout of llama.cpp, with convert_hf_to_gguf.py and, if built, llama-quantize. Default:
    those on the PATH."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Dtype of the merged weights."""
    data: tuple[str, ...] = ()
    """Files of conversations whose texts and token ids are compared, such as the training set."""
    behaviour: Literal["none", "quick", "full"] = "quick"
    """Score the artefacts in their own runtime beside the model in transformers: on a few cases, on
    all, or not at all."""
    formats: tuple[str, ...] = ()
    """Formats to score the artefacts in, separated by commas. Default: the shipped one."""
    cases: tuple[str, ...] = ()
    """Files of cases to score. Default: the shipped ones."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    device: str = "cpu"
    """Device for the merge and for the model in transformers."""
    license: str = "unknown"
    """Licence of the artefacts, for the card."""
    json: bool = False
    """Print ship.json and nothing else."""


def ship(args: list[str]) -> int:
    """Write what each runtime needs of a model, and check weights, texts, stops and scores.

    Example: harness ship runs/train --format chatml --to llamacpp,ollama --out shipped
    """
    options = parse(ShipOptions, args, "ship", ship.__doc__)
    to = _runtimes(options.to)
    types = tuple(kind.upper() for kind in split_commas((options.quantize,)))
    if not types:
        raise HarnessError("--quantize needs a value", hint="for example F16,Q8_0,Q4_K_M")
    from harness.ship import ShipJob
    from harness.ship import ship as make

    job = ShipJob(
        model=options.model,
        out=Path(options.out),
        format=options.format_id,
        to=to,
        adapter=options.adapter,
        quantise=tuple(dict.fromkeys(types)),
        dtype=options.dtype,
        llama_cpp=Path(options.llama_cpp) if options.llama_cpp else None,
        formats_dirs=options.formats_dir,
        data=options.data,
        behaviour=options.behaviour,
        formats=split_commas(options.formats),
        cases=options.cases,
        device=options.device,
        license=options.license,
    )
    shipment = make(job, quiet=options.json)
    code = EXIT_FINDINGS if shipment.findings else EXIT_OK
    if options.json:
        print_json(shipment.to_json(), indent=1)
        return code
    _print(shipment, job.out)
    return code


def _runtimes(text: str) -> tuple[Runtime, ...]:
    """The runtimes that --to names. Raises HarnessError for an unknown one, and for none."""
    from harness.ship import RUNTIMES

    named = split_commas((text,))
    for name in named:
        if name not in RUNTIMES:
            raise HarnessError(f"unknown --to {name!r}", hint=nearest(name, RUNTIMES))
    if not named:
        raise HarnessError("--to needs a value", hint=f"some of {', '.join(RUNTIMES)}")
    return tuple(one for one in RUNTIMES if one in named)


def _print(shipment: Shipment, out: Path) -> None:
    """The artefacts, one line for each check and each finding, and the commands."""
    for artefact in shipment.artefacts:
        if artefact.quantisation:
            print(f"  {artefact.path}  {artefact.quantisation}, {artefact.bytes / 1e6:,.1f} MB")
    for check in shipment.checks:
        reason = f": {check.reason}" if check.reason else ""
        print(f"  {check.state.upper():11}  {check.runtime}, {check.check}{reason}")
        for finding in check.findings:
            print(f"               {finding}")
    for note in shipment.notes:
        print(f"note: {note}")
    print(f"written: {out}")
    for runtime, command in shipment.commands.items():
        print(f"{runtime}: {command}")
