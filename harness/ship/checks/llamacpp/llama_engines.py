"""Which llama.cpp is installed: its server (PyPI xllamacpp), or its C library (llama-cpp-python).

The server renders, tokenises and ends answers as people run it. The library tokenises a text and
knows the ends of an answer, but has no engine for templates: ours renders them then.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.backends.llama_context import library
from harness.errors import HarnessError
from harness.extras import is_installed

SERVER, LIBRARY, NONE = "xllamacpp", "llama_cpp", ""
NO_LLAMACPP = "llama.cpp is not installed here: pip install xllamacpp, or 'formatproof[llamacpp]'"
_LIMIT_S = 900


def pick_engine(engine: str | None) -> str:
    """The given engine ("" for none), or by default the best one that is installed."""
    if engine is not None:
        return engine
    return next((one for one in (SERVER, LIBRARY) if is_installed(one)), NONE)


def tokenised(gguf: Path, texts: Sequence[str], engine: str) -> list[tuple[int, ...]]:
    """The ids of texts as llama-server tokenises a chat: with its own BOS, and control tokens."""
    if engine == SERVER:
        replies = ask_llama(gguf, [{"content": text} for text in texts])
        return [tuple(reply["tokens"]) for reply in replies]
    vocabulary = Vocabulary(gguf)
    try:
        return [vocabulary.tokenise(text) for text in texts]
    finally:
        vocabulary.close()


def ending(gguf: Path, tokens: Sequence[int]) -> frozenset[int]:
    """Those of the tokens that end an answer, by the library."""
    vocabulary = Vocabulary(gguf)
    try:
        return frozenset(filter(vocabulary.ends, tokens))
    finally:
        vocabulary.close()


class Vocabulary:
    """A GGUF file's tokenizer in llama-cpp-python, without its weights.

    Raises HarnessError for a file that llama.cpp does not load.
    """

    def __init__(self, gguf: Path) -> None:
        self._lib = library()
        params = self._lib.llama_model_default_params()
        params.vocab_only = True
        self._handle = self._lib.llama_model_load_from_file(os.fsencode(gguf), params)
        if not self._handle:
            raise HarnessError("llama.cpp cannot load the file", where=str(gguf))
        self._vocabulary = self._lib.llama_model_get_vocab(self._handle)

    def tokenise(self, text: str) -> tuple[int, ...]:
        """The ids of a text, with the BOS that the file says, and control tokens as such."""
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        count = self._lib.llama_tokenize(
            self._vocabulary, data, len(data), ids, len(ids), True, True
        )
        return tuple(ids[:count])

    def ends(self, token: int) -> bool:
        """Whether llama.cpp ends an answer at this token."""
        return bool(self._lib.llama_vocab_is_eog(self._vocabulary, token))

    def close(self) -> None:
        """Free it."""
        self._lib.llama_model_free(self._handle)


def ask_llama(gguf: Path, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers of ``llama_process`` to these requests. It loads the file once for all.

    Raises HarnessError where llama.cpp cannot load the file.
    """
    package = str(Path(__file__).parents[4])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "harness.ship.checks.llamacpp.llama_process"],
            check=False,
            input=json.dumps({"model": str(gguf), "requests": [*requests]}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_LIMIT_S,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(
            f"llama.cpp does not answer within {_LIMIT_S} s", where=str(gguf)
        ) from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if len(lines) != len(requests):
        words = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in words if "error" in line.lower()), words[-1] if words else "no reason"
        )
        raise HarnessError(f"llama.cpp cannot load the file: {reason[:300]}", where=str(gguf))
    return [json.loads(line) for line in lines]
