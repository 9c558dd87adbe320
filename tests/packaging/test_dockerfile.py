"""The Dockerfile, read line by line: no docker runs in the tests."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = [
    line.split(" ", 1)
    for line in re.sub(r"\\\n\s*", "", TEXT).splitlines()
    if line and not line.startswith("#")
]


def values(instruction: str) -> list[str]:
    return [value for name, value in LINES if name == instruction]


def test_the_instructions_are_known_and_the_base_has_a_version():
    known = {"FROM", "RUN", "COPY", "USER", "WORKDIR", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in LINES} <= known and LINES[0][0] == "FROM"
    assert all(re.search(r":\d", image) for image in values("FROM"))


def test_it_ends_as_an_ordinary_user_in_the_command():
    [user], [entry], [command] = values("USER"), values("ENTRYPOINT"), values("CMD")
    assert user not in ("root", "0") and f"useradd --create-home --uid 1000 {user}" in TEXT
    assert json.loads(entry) == ["harness"] and json.loads(command) == ["--help"]
    names = [name for name, _ in LINES]
    after = names[names.index("USER") :]
    assert "RUN" not in after and "COPY" not in after  # all is installed before, as root


def test_torch_is_the_build_for_a_cpu():
    [install] = [run for run in values("RUN") if "uv pip install" in run]
    assert "--torch-backend cpu" in install and "[local,gguf]" in install
    assert "--constraint /src/constraints.txt" in install and "--no-cache" in install
    assert all("--no-cache-dir" in run for run in values("RUN") if run.startswith("pip install"))


def test_what_is_copied_is_there_is_not_ignored_and_is_all_that_the_wheel_needs():
    copied = [source for value in values("COPY") for source in value.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert lines[0] == "*" and sorted(copied) == sorted(kept)
    assert not any(
        fnmatch(source, line) for source in copied for line in lines[1:] if line[0] != "!"
    )
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.split("wheel.force-include]")[1].split("[tool")[0]
    needed = [line.split(" = ")[0].strip('"') for line in section.splitlines() if " = " in line]
    assert needed and all(any(path.startswith(source) for source in copied) for path in needed)
