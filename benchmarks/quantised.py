"""How far llama.cpp on a GGUF's own quantisation is from its dequantised weights, and how fast.

The same requests go to llama.cpp, to transformers in the dtype that ``harness eval`` takes here, and
to transformers in float32, with which the other two are compared: shipped cases of every kind in
four formats. Each engine does a few requests before it is timed. Log-probabilities are compared
token by token, choices by the option with the highest log-probability, greedy answers by their text.

Run: python -m benchmarks.quantised NAME=FILE.gguf [NAME=FILE.gguf …] [--cases 24] [--page]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.page_table import write_table
from harness.backends import Backend, GenerateRequest, ModelSpec, ScoreRequest
from harness.backends.by_name import open_backend
from harness.evaluation.cases.case_files import limit_cases, load_cases
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats

PAGE = Path(__file__).resolve().parent.parent / "docs" / "gguf.md"
FORMATS = ("chatml", "llama3", "alpaca-newline", "gemma3")
LONGEST = 64
HEAD = """| file | engine | scoring, tokens/s | answers, tokens/s | nats a token: mean | 99 % below | choices alike | greedy answers alike |
|---|---|---|---|---|---|---|---|"""


@dataclass
class Measured:
    """What an engine gave, and how long it took."""

    logprobs: dict[str, list[list[float]]]
    texts: dict[str, str]
    scoring: float
    answering: float


def measure(backend: Backend, cases: int) -> Measured:
    """Score and answer the requests."""
    formats = [load_formats()[name] for name in FORMATS]
    chosen = limit_cases(load_cases(()), cases)
    planned = RequestBuilder(backend, LONGEST).build(chosen, formats)
    named = {f"{one.case} {one.format}": one.request for one in planned}
    scored = [
        ScoreRequest(name, one.answers)
        for name, one in named.items()
        if isinstance(one, ScoreRequest)
    ]
    asked = [
        GenerateRequest(name, one.prompt, LONGEST, stop_tokens=one.stop_tokens)
        for name, one in named.items()
        if isinstance(one, GenerateRequest)
    ]
    for _ in backend.score(scored[:8]):
        pass
    for _ in backend.generate(asked[:8]):
        pass
    began = time.perf_counter()
    logprobs = {
        key: [list(answer.token_logprobs) for answer in found]
        for batch in backend.score(scored)
        for key, found in batch
    }
    between = time.perf_counter()
    answers = {key: answer for batch in backend.generate(asked) for key, answer in batch}
    ended = time.perf_counter()
    tokens = sum(len(values) for found in logprobs.values() for values in found)
    return Measured(
        logprobs,
        {key: answer.text for key, answer in answers.items()},
        tokens / (between - began),
        sum(len(answer.token_ids) for answer in answers.values()) / (ended - between),
    )


def row(name: str, engine: str, one: Measured, reference: Measured) -> str:
    """One engine's line of the table."""
    off = [
        abs(a - b)
        for key, found in one.logprobs.items()
        for ours, theirs in zip(found, reference.logprobs[key], strict=True)
        for a, b in zip(ours, theirs, strict=True)
    ]
    options = [key for key, found in one.logprobs.items() if len(found) > 1]
    alike = [best(one.logprobs[key]) == best(reference.logprobs[key]) for key in options]
    texts = [text == reference.texts[key] for key, text in one.texts.items()]
    end = statistics.quantiles(off, n=100)[-1] if any(off) else 0.0
    return (
        f"| {name} | {engine} | {one.scoring:.0f} | {one.answering:.0f} | {statistics.mean(off):.4f}"
        f" | {end:.3f} | {sum(alike)} of {len(alike)} | {sum(texts)} of {len(texts)} |"
    )


def best(answers: list[list[float]]) -> int:
    """The option with the highest log-probability."""
    sums = list(map(sum, answers))
    return sums.index(max(sums))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="NAME=FILE.gguf")
    parser.add_argument("--cases", type=int, default=24, help="of each kind")
    parser.add_argument("--page", action="store_true", help="write the table into docs/gguf.md")
    options = parser.parse_args()
    lines = [HEAD]
    for given in options.files:
        name, _, file = given.partition("=")
        found = {}
        for engine, spec in (
            ("float32", ModelSpec(file, dtype="float32")),
            ("local", ModelSpec(file)),
            ("llamacpp", ModelSpec(file)),
        ):
            backend = open_backend("local" if engine == "float32" else engine, spec, {})
            label = f"{backend.fingerprint['backend']}, {backend.fingerprint['dtype']}"
            found[label] = measure(backend, options.cases)
            backend.close()
        reference = next(iter(found.values()))
        lines += [row(name, label, one, reference) for label, one in found.items()]
        print(*lines, sep="\n", flush=True)
    if options.page:
        write_table(PAGE, "gguf", "\n".join(lines))


if __name__ == "__main__":
    main()
