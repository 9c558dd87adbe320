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
from harness.ship.checks.llamacpp.llama_engines import SERVER, ending, pick_engine
from harness.ship.checks.trained_texts import TrainedTexts
from harness.ship.findings import Checked, Finding

STOPS = "stops"
GENERATION, CONFIG = "generation_config.json", "config.json"
#: Control tokens that llama.cpp takes for an end of generation by their text.
_KNOWN_TO_LLAMA = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"),
        *("<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "<|eom_id|>", "<|return|>", "<|call|>"),
        *("<｜end▁of▁sentence｜>", "<end_of_utterance>"),
    }
)
_REMEDY = {
    "missing-eos": "write {ids} as eos_token_id",
    "wrong-eos": "write {ids} as eos_token_id",
    "missing-stop": "add {stop} to the ends of generation",
    "early-stop": "take it out: answers contain that token",
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
        return Checked.not_checked(STOPS, runtime, "no end of an answer was trained")
    open_tails = [tail for tail in trained.tails if not _ended(trained, tail, ends)]
    texts = [tail for tail in open_tails if not trained.tokens_of(tail)]
    tokens = [tail for tail in open_tails if tail not in texts]
    findings = [_finding(trained, tail, ends) for tail in tokens]
    by_request = ends.strings is None and len(open_tails) < len(trained.tails) and not tokens
    if texts and not by_request:
        findings += [_finding(trained, tail, ends) for tail in texts]
    findings += _early(trained, ends)
    notes = [how] if how else []
    if texts and by_request:
        shown = ", ".join(map(repr, texts))
        notes.append(f"{shown} is plain text: give it as a stop string with each request")
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
    known = f"it ends at the ids {sorted(ends.ids)}" if ends.ids else "it has no end of its own"
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


def check_gguf_ends(
    trained: TrainedTexts,
    gguf: Path,
    *,
    stops: tuple[str, ...] | None = None,
    engine: str | None = None,
) -> Checked:
    """The ends of a GGUF file in llama.cpp, by forcing each of them, or by its metadata."""
    ends, how = ends_of_gguf(trained, gguf, stops=stops, engine=engine)
    return check_ends(trained, ends, "llamacpp", how)


def ends_of_gguf(
    trained: TrainedTexts,
    gguf: Path,
    *,
    stops: tuple[str, ...] | None = None,
    engine: str | None = None,
) -> tuple[Ends, str]:
    """Where llama.cpp ends an answer, and how that was found."""
    metadata = GgufMetadata.read(gguf)
    where = f"{gguf}: tokenizer.ggml.eos_token_id"
    if picked := pick_engine(engine):
        wanted = {one for tail in trained.tails for one in trained.tokens_of(tail).values()}
        ids = ending(gguf, sorted(wanted | metadata.end_ids), picked)
        how = "each end was forced in" if picked == SERVER else "by the list of ends of"
        return Ends(where, ids, stops), f"{how} llama.cpp"
    known = {
        one
        for tail in trained.tails
        for text, one in trained.tokens_of(tail).items()
        if text in _KNOWN_TO_LLAMA and text in metadata.control
    }
    return Ends(where, metadata.end_ids | known, stops), "by the file's metadata, not by llama.cpp"


def check_modelfile_ends(trained: TrainedTexts, modelfile: str, gguf: Path | None) -> Checked:
    """The ends of a Modelfile: its stop strings, and EOS of the GGUF file if it is given."""
    strings = tuple(value for key, value in read_parameters(modelfile) if key == "stop")
    ids: frozenset[int] = frozenset()
    how = "by the Modelfile alone: EOS of its GGUF file is not known"
    if gguf is not None:
        ids, how = GgufMetadata.read(gguf).end_ids, "by the Modelfile and the file's metadata"
    return check_ends(trained, Ends("Modelfile: PARAMETER stop", ids, strings), "ollama", how)
