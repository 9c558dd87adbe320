"""A backend is one file: the one that docs/add-a-backend.md shows is added and evaluated with."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.backends import ModelSpec, by_name
from harness.backends.by_name import BACKENDS, find_backend, open_backend
from harness.cli.main import main
from harness.errors import HarnessError
from harness.models.quantisation import Quantisation

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-backend.md"


@pytest.fixture
def file(tmp_path):
    """The file that docs/add-a-backend.md shows, outside the repository."""
    [source] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "program.py"
    path.write_text(source, encoding="utf-8")
    return path


@pytest.fixture
def command(tmp_path):
    """A program that answers every prompt with the same word and the stop of ChatML."""
    script = tmp_path / "answer.py"
    script.write_text("import sys\nsys.stdin.read()\nprint('Hello<|im_end|>', end='')\n")
    return shlex.join([sys.executable, str(script)])


def run(tmp_path, cases, *args):
    words = ["eval", "toy", "--formats", "chatml,llama3", "--cases", str(cases), "--json"]
    return main([*words, "--out", str(tmp_path / "out"), *args])


def test_a_backend_in_a_file_evaluates(file, command, cases, tmp_path, capsys):
    options = ["--engine", str(file), "--engine-option", f"command={command}"]
    assert run(tmp_path, cases, *options) == 0
    shown = json.loads(capsys.readouterr().out)
    means = {(cell["format"], cell["metric"]): cell["mean"] for cell in shown["cells"]}
    assert shown["model"] == "toy"
    assert means["chatml", "answer_strict"] == means["llama3", "answer_strict"] == 1
    assert (means["chatml", "stopped"], means["llama3", "stopped"]) == (1, 0)
    with closing(sqlite3.connect(tmp_path / "out" / "results.sqlite")) as results:
        whys = results.execute("SELECT why FROM score WHERE value IS NULL").fetchall()
    assert means.get(("chatml", "choice")) is None
    assert ("a program prints no log-probabilities",) in whys

    (tmp_path / "answer.py").unlink()
    assert run(tmp_path, cases, *options) == 0, "the results file has the answers"


def test_its_errors_are_one_line(file, cases, tmp_path, capsys):
    options = ["--engine", str(file), "--engine-option", "command=false"]
    assert run(tmp_path, cases, *options) == 2
    assert "the program fails" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--engine", "rey"], "did you mean ray?"),
        (["--engine", "FILE"], "'command' — its options: command"),
        (["--engine", "FILE", "--engine-option", "depth=3"], "its options: command"),
        (["--engine", "FILE", "--engine-option", "command"], "expected KEY=VALUE"),
        (["--engine", "missing.py"], "no such Python file"),
        (["--engine", "EMPTY"], "defines no function open_backend"),
        (["--engine-option", "a=b"], "engine local"),
        (["--engine", "openai"], "'url' — its options: url"),
    ],
)
def test_what_does_not_fit_is_reported(args, message, file, cases, tmp_path, capsys):
    (tmp_path / "empty.py").write_text("")
    names = {"FILE": str(file), "EMPTY": str(tmp_path / "empty.py")}
    assert run(tmp_path, cases, *(names.get(arg, arg) for arg in args)) == 2
    assert message in capsys.readouterr().err


def test_an_installed_package_adds_a_backend(file, command, monkeypatch):
    monkeypatch.syspath_prepend(str(file.parent))
    point = EntryPoint("mine", "program:open_backend", by_name.ENTRY_POINTS)
    monkeypatch.setattr(by_name, "entry_points", lambda group: [point])
    find_backend.cache_clear()
    backend = open_backend("mine", ModelSpec("toy"), {"command": command})
    assert backend.fingerprint["backend"] == "program-1"
    assert backend.model_name == backend.bos_token == backend.eos_token == ""
    assert backend.tokenizer is backend.chat_template is None and not backend.applies_template
    backend.close()
    find_backend.cache_clear()


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_of_ours_is_found(name):
    assert find_backend(name).__module__.startswith("harness.backends.")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelSpec("m", adapter="a"), "loads its adapter itself"),
        (ModelSpec("m", quantisation=Quantisation(load_in_4bit=True)), "stores its model itself"),
    ],
)
def test_a_server_decides_about_adapter_and_quantisation(model, message):
    with pytest.raises(HarnessError, match=message):
        open_backend("openai", model, {"url": "http://h/v1"})


def test_a_gguf_file_without_llama_cpp_is_dequantised_with_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    model, opened = ModelSpec(str(path)), object()
    monkeypatch.setattr(by_name, "is_installed", lambda package: package != "llama_cpp")
    monkeypatch.setattr(by_name, "find_backend", {"local": lambda model: opened}.__getitem__)
    assert open_backend("auto", model, {}) is opened
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {path} is dequantised") and "formatproof[llamacpp]" in line
    for name, given in (("local", model), ("auto", replace(model, adapter="a"))):
        assert open_backend(name, given, {}) is opened
    assert capsys.readouterr().err == "", "asked for, or nothing that llama.cpp would run"


def test_llama_cpp_by_name_without_its_package_names_the_extra(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from harness import extras

    monkeypatch.setattr(extras, "is_installed", lambda package: package != "llama_cpp")
    find_backend.cache_clear()
    from harness.backends import llama_context

    llama_context.library.cache_clear()
    with pytest.raises(HarnessError, match="needs llama_cpp") as error:
        open_backend("llamacpp", ModelSpec(str(tmp_path)), {})
    assert "formatproof[llamacpp]" in str(error.value)
    llama_context.library.cache_clear()
