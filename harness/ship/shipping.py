"""The entrance of the room: make what each runtime needs, check it, and write the findings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError
from harness.evaluation.checked_job import check_job
from harness.files import new_folder
from harness.models.completeness import some_names
from harness.ship.behaviour import check_behaviour, eval_job
from harness.ship.llama_programs import CONVERTED, Programs, convert, find_programs, quantise
from harness.ship.made import Made
from harness.ship.model_folder import FOLDER, ModelFolder, write_model_folder
from harness.ship.runtime_files import hf_command, vllm_command, write_llamacpp, write_ollama
from harness.ship.ship_page import write_pages
from harness.ship.shipment import (
    Artefact,
    ShipJob,
    Shipment,
    artefact_of,
    write_shipment,
)
from harness.ship.text_checks import text_checks, texts_of
from harness.ship.trained_model import Trained, find_trained
from harness.ship.weights.weight_checks import check_weights
from harness.version import __version__

#: The dtype of a model folder → the GGUF type that holds its numbers exactly.
_EXACT = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_GGUF_RUNTIMES = ("llamacpp", "ollama")


def ship(job: ShipJob, *, quiet: bool = False) -> Shipment:
    """Write the artefacts, check them, and write ship.json, ship.html, ship.md and README.md.

    Everything appears in the new folder ``job.out`` at once. Findings do not stop it: they are in
    the result. Raises HarnessError for a wrong job, a missing program, an existing folder, and a
    failed merge or conversion.
    """
    trained = find_trained(job)
    needs_gguf = any(runtime in _GGUF_RUNTIMES for runtime in job.to)
    programs = find_programs(job.quantise, job.llama_cpp) if needs_gguf else None
    _check_scores(job, trained)
    texts = texts_of(trained, job.data)
    with new_folder(job.out) as folder:
        made = _make(job, trained, folder, programs, quiet=quiet)
        artefacts = tuple(_artefacts(made))
        _say("checking weights, texts, stops and settings", quiet)
        checks = [*check_weights(made), *text_checks(made, texts)]
        _say("scoring the artefacts", quiet or job.behaviour == "none" or not made.gguf)
        behaviour = check_behaviour(made, quiet=quiet)
        shipment = Shipment(
            name=trained.name,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            base={"name": trained.source.name, "digest": trained.source.digest},
            adapter={"name": trained.adapter_name, "digest": trained.adapter_digest}
            if trained.adapter
            else {},
            format=trained.format.id,
            stops=made.model.stops,
            stop_ids=made.model.stop_ids,
            commands=made.commands,
            made_with=made.made_with,
            artefacts=artefacts,
            checks=(*checks, *behaviour.checks),
            scores=behaviour.scores,
            license=job.license,
            notes=made.notes,
        )
        write_shipment(folder, shipment)
        write_pages(folder, shipment)
    return shipment


def _check_scores(job: ShipJob, trained: Trained) -> None:
    """Refuse wrong cases and formats before the merge, although scoring comes after it."""
    if job.behaviour != "none":
        check_job(eval_job(job, trained, job.out))
    elif job.formats or job.cases:
        raise HarnessError(
            "--formats and --cases are for scores", hint="add --behaviour quick or full"
        )


def _make(
    job: ShipJob, trained: Trained, folder: Path, programs: Programs | None, *, quiet: bool
) -> Made:
    """Write the files of each runtime of the job below a folder."""
    _say("merging" if trained.adapter else "copying", quiet)
    model = write_model_folder(trained, folder / FOLDER, job.dtype, job.device)
    commands: dict[str, str] = {}
    notes: list[str] = []
    formats = trained.metadata.trained_formats if trained.metadata else ()
    if formats and trained.format.id not in formats:
        named = some_names(formats)
        notes.append(f"the adapter was not trained in {trained.format.id}, but in {named}")
    if "hf" in job.to:
        commands["hf"] = hf_command()
    if "vllm" in job.to:
        commands["vllm"] = vllm_command(trained.name)
    gguf: dict[str, Path] = {}
    if programs:
        place = folder / "llamacpp"
        place.mkdir()
        gguf = _write_gguf(job, programs, model, place, trained.name, quiet=quiet)
        command = write_llamacpp(place, model, list(gguf.values()))
        if "llamacpp" in job.to:
            commands["llamacpp"] = command
        if "ollama" in job.to:
            own = folder / "ollama"
            own.mkdir()
            file = Path("..", "llamacpp", next(reversed(gguf.values())).name)
            commands["ollama"], lost = write_ollama(own, trained.format, model, file, trained.name)
            notes += [f"ollama: {one}" for one in lost]
    made_with = {"formatproof": __version__, **(programs.made_with if programs else {})}
    return Made(job, trained, folder, model, gguf, commands, made_with, tuple(notes))


def _write_gguf(
    job: ShipJob, programs: Programs, model: ModelFolder, place: Path, name: str, *, quiet: bool
) -> dict[str, Path]:
    """Write a GGUF file of each type.

    The converter writes some types. The quantiser makes the others from the type that holds the
    model's numbers exactly.
    """
    exact = _EXACT.get(model.dtype, "F32")
    files = {kind: place / f"{name}-{kind}.gguf" for kind in job.quantise}
    quantised = [kind for kind in files if kind not in CONVERTED]
    source = files.get(exact, place / f".{name}-{exact}.gguf")
    for kind in (*files, *([exact] if quantised and exact not in files else [])):
        if kind in CONVERTED:
            _say(f"converting to {kind}", quiet)
            convert(programs, model.path, files.get(kind, source), kind)
    for kind in quantised:
        _say(f"quantising to {kind}", quiet)
        quantise(programs, source, files[kind], kind)
    if exact not in files:
        source.unlink(missing_ok=True)
    return files


def _artefacts(made: Made) -> Iterator[Artefact]:
    """The files that were written, with their digests."""
    kinds = {path: kind for kind, path in made.gguf.items()}
    for path in sorted(made.folder.rglob("*")):
        if not path.is_file():
            continue
        place = path.relative_to(made.folder).parts[0]
        runtimes = [one for one in made.job.to if one in _READERS.get(place, (place,))]
        kind = kinds.get(path, made.model.dtype if path.suffix == ".safetensors" else "")
        yield artefact_of(made.folder, path, runtimes, kind)


#: Folder of a shipment → the runtimes that read it.
_READERS = {FOLDER: ("hf", "vllm"), "llamacpp": _GGUF_RUNTIMES}


def _say(what: str, quiet: bool) -> None:
    if not quiet:
        print(f"{what} …", file=sys.stderr)
