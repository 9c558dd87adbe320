"""Build wheel and sdist, look into both, and run the wheel in an empty environment.

The wheel is installed with its own dependencies and without an extra, so torch is not there.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Folder in the wheel → its files in the checkout.
FILES = {
    "formats": ("formats", "*.jinja"),
    "eval/cases": ("eval/cases", "*.jsonl"),
    "eval/languages": ("eval/languages", "*.jsonl"),
    "recipes": ("docs/recipes", "*.toml"),
    "trainset": ("trainset", "*.jsonl"),
}
WANTED = {kind: len(list((ROOT / place).glob(of))) for kind, (place, of) in FILES.items()}
#: In the sdist, for those who test from it, and not in the wheel.
SOURCE_ONLY = ("tests", "docs", "benchmarks", "experiments")
COMMANDS = (
    ["formats", "list"],
    ["formats", "check", "--strict"],
    ["data", "check"],
    ["recipes", "list"],
)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        for kind, count in WANTED.items():
            suffix = FILES[kind][1].removeprefix("*")
            of_kind = [n for n in names if n.startswith(f"harness/_data/{kind}/")]
            found = [n for n in of_kind if n.endswith(suffix)]
            assert len(found) == count > 0, f"{kind}: {len(found)} of {count} in the wheel"
        assert any(n.startswith("harness/report/") and n.endswith(".css") for n in names), (
            "the page's style sheet is not in the wheel"
        )
        assert any(n.endswith("licenses/LICENSE") for n in names), "no LICENSE in the wheel"
        with tarfile.open(sdist) as archive:
            members = archive.getnames()
        for kind in (*WANTED, *SOURCE_ONLY):
            assert any(f"/{kind}/" in member for member in members), f"{kind} is not in the sdist"
        for kind in SOURCE_ONLY:
            assert not any(kind in n.split("/") for n in names), f"{kind} is in the wheel"
        environment = folder / "venv"
        venv.create(environment, with_pip=True)
        python = str(environment / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True)
        for script in ("harness", "formatproof"):
            for command in COMMANDS:
                subprocess.run(
                    [str(environment / "bin" / script), *command],
                    check=True,
                    cwd=folder,
                    stdout=subprocess.DEVNULL,
                )
        told = subprocess.run(
            [str(environment / "bin" / "harness"), "demo"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 2, told
        assert told.stderr.endswith("needs torch — pip install 'formatproof[local]'\n"), told
    print(f"wheel and sdist hold {WANTED} and the wheel runs without torch\n1 passed, 0 failed")


if __name__ == "__main__":
    main()
