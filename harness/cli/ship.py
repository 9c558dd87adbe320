"""harness ship: make what each runtime needs, and check it against what was trained."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from harness.cli.arguments import parse, split_commas
from harness.cli.output import print_json
from harness.errors import EXIT_FINDINGS, EXIT_OK, HarnessError, nearest

if TYPE_CHECKING:
    from harness.ship import Runtime, Shipment
    from harness.ship.findings import Checked


@dataclass(frozen=True)
class ShipOptions:
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|MODEL")]
    """Folder of a run or of an adapter, or a model: folder, hub id, or SmolLM2-135M-Instruct."""
    format_id: Annotated[str, tyro.conf.arg(name="format")]
    """Id of the prompt format that becomes the chat template."""
    out: str = ""
    """New folder for the artefacts."""
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
    """Score the files in their own runtime and the model in transformers, and compare: on a few
    cases, on all, or not at all. For a run, recall of its training set is scored too."""
    formats: tuple[str, ...] = ()
    """Formats to score in, separated by commas. Default: the shipped one."""
    cases: tuple[str, ...] = ()
    """Files of cases to score. Default: the shipped ones."""
    formats_dir: tuple[str, ...] = ()
    """Folders with more formats."""
    device: str = "cpu"
    """Device for the merge and for the model in transformers."""
    license: str = "unknown"
    """Licence of the artefacts, for the card."""
    server: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Write nothing: compare the prompts of this running server with those that RUN|MODEL was
    trained on. It may be llama-server, vLLM, SGLang, Ollama or text-generation-webui."""
    server_model: str = ""
    """With --server: the model's name there. Default: the server's first model."""
    api_key_env: str = "OPENAI_API_KEY"
    """With --server: the environment variable that holds the key."""
    json: bool = False
    """Print ship.json and nothing else."""


def ship(args: list[str]) -> int:
    """Write the files that each runtime needs, and check weights, texts, stops and scores.

    Example: harness ship runs/train --format chatml --to llamacpp,ollama --out shipped
    """
    options = parse(ShipOptions, args, "ship", ship.__doc__)
    to = _runtimes(options.to)
    types = tuple(kind.upper() for kind in split_commas((options.quantize,)))
    if not types:
        raise HarnessError("--quantize needs a value", hint="for example F16,Q8_0,Q4_K_M")
    if options.server is not None:
        return _check_server(options)
    if not options.out:
        raise HarnessError(
            "missing --out", hint="name a new folder, or check a running server with --server URL"
        )
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
    _print_checks(shipment.checks)
    for note in shipment.notes:
        print(f"note: {note}")
    print(f"written: {out}")
    for runtime, command in shipment.commands.items():
        print(f"{runtime}: {command}")


def _print_checks(checks: Iterable[Checked]) -> None:
    for check in checks:
        reason = f": {check.reason}" if check.reason else ""
        print(f"  {check.state.upper():11}  {check.runtime}, {check.check}{reason}")
        for finding in check.findings:
            print(f"               {finding}")


def _check_server(options: ShipOptions) -> int:
    """Compare what a running server sends with what was trained. Exit code 1 on findings."""
    if options.out:
        raise HarnessError(
            "--out and --server exclude each other", hint="with --server nothing is written"
        )
    from harness.ship import ShipJob
    from harness.ship.text_checks import server_checks

    job = ShipJob(
        model=options.model,
        out=Path(),
        format=options.format_id,
        adapter=options.adapter,
        formats_dirs=options.formats_dir,
        data=options.data,
    )
    checks = server_checks(
        job,
        options.server or "",
        options.server_model,
        os.environ.get(options.api_key_env) or "none",
    )
    if options.json:
        print_json(
            {"server": options.server, "checks": [one.to_json() for one in checks]}, indent=1
        )
    else:
        _print_checks(checks)
    return EXIT_FINDINGS if any(one.findings for one in checks) else EXIT_OK
