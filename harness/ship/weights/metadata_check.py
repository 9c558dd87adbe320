"""Does a GGUF file describe the shipped model: vocabulary, special ids, template, positions?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import read_json_object
from harness.models import load_tokenizer
from harness.models.source import ModelSource
from harness.ship.findings import Checked, Finding
from harness.ship.weights.gguf_file import GgufFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHECK = "vocabulary and settings"
_AGAIN = "convert the shipped model folder again, with its tokenizer in it"
#: llama.cpp's tokenizers that write a BOS where the file does not say it.
_WRITE_BOS = ("llama", "plamo2")
_TOLERANCE = 1e-5


def check_metadata(file: GgufFile, model: Path, template: str, runtime: str) -> Checked:
    """Compare what a file says of its tokenizer and model with the model folder.

    Values that a file leaves out count as llama.cpp's defaults. Raises HarnessError for a folder
    whose tokenizer cannot be read.
    """
    tokenizer = load_tokenizer(ModelSource(model.name, str(model), None, ""))
    findings = [
        *_vocabulary(file, tokenizer, model),
        *_special_ids(file, tokenizer),
        *_template(file, template),
        *_positions(file, read_json_object(model / "config.json")),
    ]
    count = len(file.value("tokenizer.ggml.tokens", []))
    return Checked.of(
        CHECK, runtime, findings, f"{count} tokens, merges, BOS, EOS, template, context and rope"
    )


def _finding(file: GgufFile, kind: str, key: str, message: str, remedy: str = _AGAIN) -> Finding:
    return Finding(CHECK, kind, f"{file.path.name}, {key}", message, remedy)


def _vocabulary(
    file: GgufFile, tokenizer: PreTrainedTokenizerBase, model: Path
) -> Iterator[Finding]:
    """Tokens by id, and merges by rank. Ids behind the tokenizer's are padding."""
    key = "tokenizer.ggml.tokens"
    stored = file.value(key, [])
    own = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if len(stored) < len(own):
        text = f"{len(stored)} tokens, and the tokenizer has {len(own)}"
        yield _finding(file, "vocabulary-differs", key, text)
    wrong = [at for at, (one, two) in enumerate(zip(stored, own, strict=False)) if one != two]
    if wrong:
        first = wrong[0]
        text = f"{len(wrong)} tokens differ: id {first} is {stored[first]!r}, "
        text += f"and {own[first]!r} in the tokenizer"
        yield _finding(file, "vocabulary-differs", key, text)
    merges = _merges(model)
    key = "tokenizer.ggml.merges"
    if merges and (found := file.value(key, [])) and found != merges:
        text = f"{len(found)} merges, and the tokenizer's {len(merges)} are others"
        yield _finding(file, "vocabulary-differs", key, text)


def _merges(model: Path) -> list[str]:
    """The merges of a BPE tokenizer as GGUF has them; none of another kind."""
    path = model / "tokenizer.json"
    if not path.is_file():
        return []
    table = json.loads(path.read_text(encoding="utf-8"))["model"]
    return [
        pair if isinstance(pair, str) else " ".join(part.replace(" ", "Ġ") for part in pair)
        for pair in table.get("merges") or ()
    ]


def _special_ids(file: GgufFile, tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
    for name, own in (("eos", tokenizer.eos_token_id), ("bos", tokenizer.bos_token_id)):
        key = f"tokenizer.ggml.{name}_token_id"
        found = file.value(key)
        if own is None or found == own:
            continue
        if found is None:
            text = f"no {name.upper()}, and the tokenizer's is {_token(tokenizer, own)}"
        else:
            text = f"{name.upper()} is {_token(tokenizer, found)}, "
            text += f"and the tokenizer's is {_token(tokenizer, own)}"
        yield _finding(file, f"{name}-differs", key, text)
    key = "tokenizer.ggml.add_bos_token"
    found = file.value(key, file.value("tokenizer.ggml.model") in _WRITE_BOS)
    own = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    if tokenizer.bos_token_id is not None and bool(found) != own:
        verb = "writes" if found else "does not write"
        other = "writes one" if own else "does not"
        text = f"llama.cpp {verb} a BOS before a text, and the tokenizer {other}"
        yield _finding(file, "add-bos-differs", key, text)


def _token(tokenizer: PreTrainedTokenizerBase, number: int) -> str:
    text = tokenizer.convert_ids_to_tokens(number) if number < len(tokenizer) else "no token"
    return f"{number} ({text})"


def _template(file: GgufFile, template: str) -> Iterator[Finding]:
    key = "tokenizer.chat_template"
    found = file.value(key)
    if found is None:
        yield _finding(file, "template-differs", key, "no chat template, so llama.cpp guesses one")
    elif found.rstrip("\n") != template.rstrip("\n"):
        at = _first_difference(found, template)
        text = f"the chat template differs from the shipped one at character {at}: "
        text += f"{found[at : at + 30]!r}, not {template[at : at + 30]!r}"
        yield _finding(file, "template-differs", key, text)


def _first_difference(one: str, two: str) -> int:
    pairs = enumerate(zip(one, two, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(two)))


def _positions(file: GgufFile, config: dict[str, Any]) -> Iterator[Finding]:
    inner = config.get("text_config")
    config = {**config, **(inner if isinstance(inner, dict) else {})}
    own = config.get("max_position_embeddings")
    key = f"{file.architecture}.context_length"
    found = file.value(key)
    if own is not None and found != own:
        yield _finding(
            file, "context-length-differs", key, f"{found} positions, and config.json says {own}"
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if any(isinstance(value, dict) for value in rope.values()):  # one for each kind of layer
        rope = rope.get("full_attention", {})
    theta = rope.get("rope_theta", config.get("rope_theta"))
    key = f"{file.architecture}.rope.freq_base"
    found = file.value(key, 10000.0)
    if theta is not None and abs(found - theta) > _TOLERANCE * theta:
        yield _finding(
            file, "rope-differs", key, f"rope base {found:g}, and config.json says {theta:g}"
        )
    factor, kind = rope.get("factor"), rope.get("rope_type", rope.get("type", "default"))
    key = f"{file.architecture}.rope.scaling.factor"
    if kind in ("linear", "yarn") and factor is not None and file.value(key) != factor:
        text = f"rope scaled by {file.value(key)}, and config.json says {factor} ({kind})"
        yield _finding(file, "rope-differs", key, text)
