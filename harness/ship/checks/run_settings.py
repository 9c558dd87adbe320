"""Settings with which a runtime answers differently from what was measured.

Answers were measured greedily, without penalties, and with their whole prompt. A setting that
changes this by default is reported; one that comes with a request is the user's choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.files import read_json_object, read_text
from harness.formats.exchange.programs.ollama_reading import read_instructions, read_parameters
from harness.models.architecture import WINDOW_KEYS
from harness.ship.checks.ends import CONFIG, GENERATION
from harness.ship.checks.llamacpp.gguf_metadata import GgufMetadata
from harness.ship.checks.trained_texts import TrainedTexts
from harness.ship.findings import Checked, Finding

SETTINGS = "settings"
#: What Ollama does where a Modelfile does not say it (DefaultOptions in its api/types.go).
OLLAMA_DEFAULTS = {"temperature": 0.8, "repeat_penalty": 1.1, "num_ctx": 4096.0}
#: Settings that penalise a repeated token, with the value that does not.
PENALTIES = {
    "repeat_penalty": 1.0,
    "repetition_penalty": 1.0,
    "penalty_repeat": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def folder_settings(trained: TrainedTexts, folder: Path, runtime: str = "hf") -> Checked:
    """The settings of a model folder, which transformers and vLLM take as defaults."""
    generation, config, tokenizer = (
        read_json_object(folder / name) if (folder / name).is_file() else {}
        for name in (GENERATION, CONFIG, "tokenizer_config.json")
    )
    where = str(folder / GENERATION)
    findings = list(_penalties(generation, where))
    if generation.get("do_sample"):
        given = generation.get("temperature")
        temperature = given if isinstance(given, int | float) else 1.0
        findings.append(_sampling(f"{where}: do_sample", temperature))
    inner = config.get("text_config")
    config = {**config, **(inner if isinstance(inner, dict) else {})}
    for name, table, keys in (
        (CONFIG, config, WINDOW_KEYS),
        ("tokenizer_config.json", tokenizer, ("model_max_length",)),
    ):
        for key in keys:
            findings += _context(trained, table.get(key), f"{folder / name}: {key}")
    findings += _templates(folder, tokenizer)
    return Checked.of(SETTINGS, runtime, findings)


def _templates(folder: Path, tokenizer: Mapping[str, Any]) -> Iterator[Finding]:
    file, older = folder / "chat_template.jinja", tokenizer.get("chat_template")
    if not file.is_file() and not older:
        yield _missing_template(str(folder))
    elif file.is_file() and isinstance(older, str) and older != read_text(file):
        yield Finding(
            SETTINGS,
            "two-templates",
            f"{folder / 'tokenizer_config.json'}: chat_template",
            "its chat template differs from chat_template.jinja, and programs differ in which they "
            "read",
            "delete the key",
        )


def gguf_settings(trained: TrainedTexts, gguf: Path, metadata: GgufMetadata) -> Checked:
    """The settings in a GGUF file's metadata."""
    findings = list(_penalties(metadata.sampling, f"{gguf}: general.sampling"))
    if metadata.sampling.get("temp"):
        findings.append(_sampling(f"{gguf}: general.sampling.temp", metadata.sampling["temp"]))
    findings += _context(trained, metadata.context, f"{gguf}: context_length")
    if not metadata.template:
        findings.append(_missing_template(str(gguf)))
    if metadata.adds_eos:
        findings.append(
            Finding(
                SETTINGS,
                "added-eos",
                f"{gguf}: tokenizer.ggml.add_eos_token",
                "the tokenizer ends each prompt with EOS, so an answer begins after the end",
                "set it to false",
            )
        )
    for tail in trained.tails:
        for text in trained.tokens_of(tail):
            if text not in metadata.control:
                findings.append(_not_control(gguf, text))
    return Checked.of(SETTINGS, "llamacpp", _once(findings))


def _not_control(gguf: Path, text: str) -> Finding:
    return Finding(
        SETTINGS,
        "special-as-text",
        f"{gguf}: tokenizer.ggml.token_type",
        f"{text} is not a control token of this file, so it is written into answers and read as "
        "text",
        "set its type to 3 (CONTROL), or convert again",
    )


def modelfile_settings(trained: TrainedTexts, modelfile: str) -> Checked:
    """The settings of a Modelfile, with Ollama's defaults where it says nothing."""
    written = {key: value for key, value in read_parameters(modelfile) if key != "stop"}
    values = {**OLLAMA_DEFAULTS, **{key: _number(value) for key, value in written.items()}}
    where = "Modelfile: PARAMETER"
    findings = list(_penalties(values, where))
    if values["temperature"]:
        findings.append(_sampling(f"{where} temperature", values["temperature"]))
    findings += _context(trained, values["num_ctx"], f"{where} num_ctx")
    names = [name for name, _ in read_instructions(modelfile)]
    if "template" not in names:
        findings.append(_missing_template("Modelfile"))
    if "message" in names:
        findings.append(
            Finding(
                SETTINGS,
                "injected-messages",
                "Modelfile: MESSAGE",
                "turns that were not trained come before every conversation",
                "delete the instruction",
            )
        )
    return Checked.of(SETTINGS, "ollama", findings)


def server_settings(
    trained: TrainedTexts, runtime: str, context: Any, sampling: Mapping[str, Any]
) -> Checked:
    """The settings that a running server reports: its context, and default penalties."""
    findings = [*_penalties(sampling, "the server's defaults")]
    findings += _context(trained, context, "the server's context")
    notes = [] if context else ["the server does not report its context"]
    if sampling.get("temperature"):
        notes.append(f"requests without a temperature are sampled at {sampling['temperature']:g}")
    if not context and not sampling:
        return Checked.not_checked(SETTINGS, runtime, "the server reports no settings")
    return Checked.of(SETTINGS, runtime, findings, "; ".join(notes))


def _penalties(values: Mapping[str, Any], where: str) -> Iterator[Finding]:
    for key, none in PENALTIES.items():
        value = values.get(key)
        if isinstance(value, int | float) and value != none:
            yield Finding(
                SETTINGS,
                "repeat-penalty",
                f"{where} {key}",
                f"repeated tokens are penalised ({value:g}), including the marks of turns; "
                "answers were measured without a penalty",
                f"set {key} to {none:g}",
            )


def _sampling(where: str, temperature: float) -> Finding:
    return Finding(
        SETTINGS,
        "sampling",
        where,
        f"answers are sampled at temperature {temperature:g}, but were measured greedily",
        "set the temperature to 0, or measure the model as it will be used",
    )


def _context(trained: TrainedTexts, limit: Any, where: str) -> Iterator[Finding]:
    if isinstance(limit, int | float) and 0 < limit < trained.longest:
        yield Finding(
            SETTINGS,
            "context-too-short",
            where,
            f"{limit:g} tokens, and the longest row has {trained.longest}: its start is cut off",
            f"set it to at least {trained.longest}",
        )


def _missing_template(where: str) -> Finding:
    return Finding(
        SETTINGS,
        "missing-template",
        where,
        "it has no chat template, so programs guess one",
        "write the template of the trained format into it",
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _once(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))
