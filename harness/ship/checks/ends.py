"""Does each runtime end an answer where training ended it?

An answer was trained to end in a text such as ``<|im_end|>``. It ends in a runtime if one of the
control tokens in that text is an EOS there, or if one of the runtime's stop strings is in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import read_json_object
from harness.formats.exchange.programs.ollama_reading import read_parameters
from harness.ship.checks.llamacpp.gguf_metadata import GgufMetadata
from harness.ship.checks.trained_texts import TrainedTexts
from harness.ship.findings import Checked, Finding

STOPS = "stops"
GENERATION, CONFIG = "generation_config.json", "config.json"
_REMEDY = {
    "missing-eos": "write {ids} as eos_token_id",
    "wrong-eos": "write {ids} as eos_token_id",
    "missing-stop": "add {stop} to the stops of generation",
    "early-stop": "remove it: answers contain that token",
}


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends an answer in a runtime. ``where`` is the file and its key.

    ``strings`` is None where a runtime gets its stop strings with each request.
    """

    where: str
    ids: frozenset[int]
    strings: tuple[str, ...] | None = None


def check_ends(trained: TrainedTexts, ends: Ends, runtime: str, how: str = "") -> Checked:
    """Compare the ends of trained answers with those of a runtime."""
    if not trained.tails:
        return Checked.not_checked(STOPS, runtime, "no stop was trained")
    open_tails = [tail for tail in trained.tails if not _ended(trained, tail, ends)]
    texts = [tail for tail in open_tails if not trained.tokens_of(tail)]
    tokens = [tail for tail in open_tails if tail not in texts]
    by_request = ends.strings is None and len(open_tails) < len(trained.tails) and not tokens
    findings = [_finding(trained, tail, ends) for tail in tokens]
    notes = [how] if how else []
    if texts and by_request:
        shown = ", ".join(map(repr, texts))
        notes.append(f"{shown} is plain text: give it as a stop string with each request")
    else:
        findings += [_finding(trained, tail, ends) for tail in texts]
    findings += _early(trained, ends)
    return Checked.of(STOPS, runtime, findings, "; ".join(notes))


def _ended(trained: TrainedTexts, tail: str, ends: Ends) -> bool:
    if any(token in ends.ids for token in trained.tokens_of(tail).values()):
        return True
    return any(stop and stop.strip() in tail for stop in ends.strings or () if stop.strip())


def _finding(trained: TrainedTexts, tail: str, ends: Ends) -> Finding:
    tokens = trained.tokens_of(tail)
    used = {one for other in trained.tails for one in trained.tokens_of(other).values()}
    kind = "missing-stop"
    if tokens and not ends.ids and not ends.strings:
        kind = "missing-eos"
    elif tokens and not ends.ids & used and ends.strings is None:
        kind = "wrong-eos"
    known = f"it ends at the ids {sorted(ends.ids)}" if ends.ids else "it has no stops of its own"
    if ends.strings:
        known += f" and at {', '.join(map(repr, ends.strings))}"
    shown = ", ".join(f"{text} ({token})" for text, token in tokens.items()) or repr(tail)
    return Finding(
        STOPS,
        kind,
        ends.where,
        f"answers were trained to end in {shown}, and the runtime does not end there: {known}",
        _REMEDY[kind].format(ids=sorted(tokens.values()), stop=shown),
    )


def _early(trained: TrainedTexts, ends: Ends) -> Iterable[Finding]:
    """Ends that occur inside trained answers."""
    for token in sorted(ends.ids & trained.answered):
        text = trained.tokenizer.convert_ids_to_tokens(token)
        message = f"an answer ends at {text!r} ({token}), which trained answers contain"
        yield Finding(STOPS, "early-stop", ends.where, message, _REMEDY["early-stop"])


def ends_of_folder(folder: Path) -> Ends:
    """Where ``generate`` of transformers, and vLLM, end an answer of a model folder.

    generation_config.json decides if it is there, else config.json.
    """
    for name in (GENERATION, CONFIG):
        file = folder / name
        if file.is_file():
            return Ends(f"{file}: eos_token_id", frozenset(_ids(read_json_object(file))))
    return Ends(f"{folder / GENERATION}: missing", frozenset())


def _ids(table: dict[str, Any]) -> list[int]:
    given = table.get("eos_token_id")
    ids = given if isinstance(given, list) else [given]
    return [one for one in ids if isinstance(one, int)]


def check_modelfile_ends(
    trained: TrainedTexts, modelfile: str, metadata: GgufMetadata | None
) -> Checked:
    """The ends of a Modelfile: its stop strings, and EOS of its GGUF file if that is known."""
    strings = tuple(value for key, value in read_parameters(modelfile) if key == "stop")
    ids = metadata.end_ids if metadata else frozenset[int]()
    ends = Ends("Modelfile: PARAMETER stop", ids, strings)
    if metadata:
        how = "by the Modelfile and the metadata of its GGUF file"
        return check_ends(trained, ends, "ollama", how)
    unknown = "the EOS of its GGUF file is unknown"
    for tail in trained.tails:
        if trained.tokens_of(tail) and not _ended(trained, tail, ends):
            reason = f"{tail!r} is no stop of the Modelfile, and {unknown}"
            return Checked.not_checked(STOPS, "ollama", reason)
    return check_ends(trained, ends, "ollama", f"by the Modelfile alone: {unknown}")
