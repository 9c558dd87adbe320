"""llama.cpp in this process: a GGUF model, and KV caches that run sequences of token ids.

The calls are those of llama.cpp's C API (``llama.h``), as the package llama-cpp-python declares
them. Its class ``Llama`` is not used: it runs one sequence at a time, keeps the logits of every
position, and tokenises by itself.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.extras import require

if TYPE_CHECKING:
    import numpy as np

#: Tokens of one pass over the weights, llama.cpp's own default.
BATCH = 512
#: Bytes of logits that one pass may leave: 262 144 tokens of a vocabulary are 1 MiB a position.
_LOGITS_BYTES = 128 * 2**20
#: ``enum ggml_log_level``.
_LOG_ERROR = 4
_NO_ROOM = 1

_errors: deque[str] = deque(maxlen=20)
"""What llama.cpp last said of an error. It returns no more than that there was one."""


@functools.cache
def library() -> Any:
    """The declared C API, initialised. What llama.cpp prints is dropped, its errors are kept.

    Raises HarnessError where the package is missing, or its library cannot be loaded.
    """
    require("llama_cpp", "a GGUF file through llama.cpp")
    try:
        from llama_cpp import llama_cpp as lib
    except (OSError, RuntimeError) as error:  # a library for another machine
        raise HarnessError(
            f"llama-cpp-python cannot be loaded: {error}",
            hint="pip install --force-reinstall --no-cache-dir llama-cpp-python, "
            "or --engine local to dequantise the file",
        ) from None

    @lib.llama_log_callback  # type: ignore[untyped-decorator]
    def keep(level: int, text: bytes, _data: object) -> None:
        if level == _LOG_ERROR:
            _errors.append(text.decode("utf-8", "replace").strip())

    lib.harness_log_callback = keep  # C holds no reference
    lib.llama_log_set(keep, ctypes.c_void_p(0))
    lib.llama_backend_init()
    return lib


def version() -> str:
    """The versions of llama.cpp and of the package."""
    from llama_cpp import __version__

    return f"{library().llama_version().decode()} (llama-cpp-python {__version__})"


class LlamaModel:
    """A GGUF file's weights, as they are stored. ``gpu_layers`` are run on a GPU; −1 are all.

    Raises HarnessError for a file that llama.cpp does not load, and for an encoder.
    """

    def __init__(self, file: str, *, gpu_layers: int, threads: int) -> None:
        lib = library()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        _errors.clear()
        self.handle = lib.llama_model_load_from_file(os.fsencode(Path(file)), params)
        if not self.handle:
            raise HarnessError(f"llama.cpp cannot load the model: {_why()}", where=file)
        if lib.llama_model_has_encoder(self.handle) or lib.llama_model_is_diffusion(self.handle):
            raise HarnessError("the model does not continue a text", where=file)
        self.threads = threads
        self.vocabulary = lib.llama_model_get_vocab(self.handle)
        self.vocabulary_size = int(lib.llama_vocab_n_tokens(self.vocabulary))
        self.window = int(lib.llama_model_n_ctx_train(self.handle))
        """The most positions that it was trained with."""
        self.quantisation = lib.llama_ftype_name(lib.llama_model_ftype(self.handle)).decode()
        self.keeps_states = bool(
            lib.llama_model_is_recurrent(self.handle) or lib.llama_model_is_hybrid(self.handle)
        )
        """Whether it has states beside, or instead of, a KV cache. They cannot be shared or cut."""
        self.on_gpu = gpu_layers != 0 and bool(lib.llama_supports_gpu_offload())

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text by llama.cpp's own tokenizer, without BOS, controls spelt as text."""
        data = text.encode()
        ids = (library().llama_token * (len(data) + 8))()
        count = library().llama_tokenize(
            self.vocabulary, data, len(data), ids, len(ids), False, False
        )
        return list(ids[:count])

    def close(self) -> None:
        """Free the weights. Contexts are to be closed before."""
        if self.handle:
            library().llama_model_free(self.handle)
            self.handle = None


class LlamaContext:
    """A KV cache of ``cells`` tokens in all, for up to ``sequences`` sequences.

    ``shared``: sequences may have tokens in common. Else each has its own part of the cells, and
    attends to no more than those.
    """

    def __init__(self, model: LlamaModel, *, cells: int, sequences: int, shared: bool) -> None:
        lib = library()
        params = lib.llama_context_default_params()
        self.outputs = max(32, _LOGITS_BYTES // (4 * model.vocabulary_size))
        params.n_ctx, params.n_seq_max, params.kv_unified = cells, sequences, shared
        params.n_batch = params.n_ubatch = BATCH
        params.n_outputs_max = min(self.outputs, BATCH)
        params.n_threads = params.n_threads_batch = model.threads
        params.swa_full = True  # keys behind a sliding window stay, for answers that share a prompt
        params.no_perf = True
        _errors.clear()
        self.model = model
        self.handle = lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise HarnessError(
                f"llama.cpp cannot make a KV cache of {cells} tokens: {_why()}",
                hint="a smaller --engine-option budget=… holds fewer tokens at a time",
            )
        self.memory = lib.llama_get_memory(self.handle)

    def run(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        members: Sequence[Sequence[int]],
        wanted: Sequence[int],
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Run tokens, each at its position and in the sequences that it is a member of.

        A token comes behind those it attends to. Yields, pass by pass, those of the places
        ``wanted`` (sorted) that it held, with their logits [places, vocabulary]: a view of
        llama.cpp's own memory, good until the next pass.
        """
        import numpy as np

        lib = library()
        asked = set(wanted)
        start = 0
        while start < len(ids):
            end, here = start, list[int]()
            while end < min(len(ids), start + BATCH) and len(here) < self.outputs:
                here += [end] if end in asked else []
                end += 1
            self._decode(ids[start:end], positions[start:end], members[start:end], here, start)
            if here:
                logits = lib.llama_get_logits(self.handle)
                yield here, np.ctypeslib.as_array(logits, (len(here), self.model.vocabulary_size))
            start = end

    def _decode(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        members: Sequence[Sequence[int]],
        wanted: Sequence[int],
        start: int,
    ) -> None:
        import numpy as np

        lib = library()
        token, pos = np.array(ids, np.int32), np.array(positions, np.int32)
        counts = np.array([len(each) for each in members], np.int32)
        flat = np.array([member for each in members for member in each], np.int32)
        begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
        pointers = (flat.ctypes.data + begins * flat.itemsize).astype(np.uintp)
        flags = np.zeros(len(ids), np.int8)
        flags[[place - start for place in wanted]] = 1

        def pointer(array: np.ndarray, kind: Any) -> Any:
            return array.ctypes.data_as(ctypes.POINTER(kind))

        batch = lib.llama_batch(
            n_tokens=len(ids),
            token=pointer(token, lib.llama_token),
            pos=pointer(pos, lib.llama_pos),
            n_seq_id=pointer(counts, ctypes.c_int32),
            seq_id=pointer(pointers, ctypes.POINTER(lib.llama_seq_id)),
            logits=pointer(flags, ctypes.c_int8),
        )
        _errors.clear()
        code = lib.llama_decode(self.handle, batch)
        if code == _NO_ROOM:
            raise HarnessError(
                "llama.cpp finds no room in its KV cache",
                hint="a smaller --engine-option budget=… holds fewer tokens at a time",
            )
        if code:
            raise HarnessError(f"llama.cpp cannot run the model (code {code}): {_why()}")

    def copy(self, source: int, target: int) -> None:
        """Give an empty sequence what another one holds."""
        library().llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def cut(self, sequence: int, length: int = 0) -> None:
        """Keep the first ``length`` tokens of a sequence."""
        library().llama_memory_seq_rm(self.memory, sequence, length, -1)

    def clear(self) -> None:
        """Empty all sequences."""
        library().llama_memory_clear(self.memory, False)

    def close(self) -> None:
        """Free the cache."""
        if self.handle:
            library().llama_free(self.handle)
            self.handle = None


def _why() -> str:
    """The first error of the last call, which is the cause of the others."""
    return _errors[0] if _errors else "it does not say why"
