"""What the light installation says where a command needs more than it has.

In ``tox -e light`` torch is really not there; elsewhere the imports are blocked.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.extras import EXTRAS, explain_missing, is_installed, missing_package, require

LOCAL = [name for name, extra in EXTRAS.items() if extra == "local"]
NEEDS_LOCAL = [
    ["eval", "MODEL", "--out", "out"],
    ["train", "run.toml"],
    ["demo", "--out", "out"],
    ["data", "answers", "rows.jsonl", "--model", "MODEL", "--out", "out"],
    ["merge", "adapter", "--base", "MODEL", "--out", "out"],
    ["preview", "chat.json", "--format", "chatml", "--model", "MODEL"],
]


class Blocked:
    """Finds none of these packages, and lets nobody after it find them."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LOCAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def light(monkeypatch, tmp_path):
    """A folder to work in, and no package of the extra [local]."""
    for name in [name for name in sys.modules if name.partition(".")[0] in LOCAL]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Blocked(), *sys.meta_path])
    model = tmp_path / "MODEL"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    row = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    (tmp_path / "rows.jsonl").write_text(row + "\n")
    (tmp_path / "chat.json").write_text(row)
    (tmp_path / "run.toml").write_text(
        'model = "MODEL"\noutput_dir = "out"\n[data]\ntrain = ["rows.jsonl"]\n'
    )
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("args", NEEDS_LOCAL, ids=lambda args: args[0])
def test_a_command_says_in_one_line_what_to_install(light, capsys, args):
    assert main(args) == 2
    error = capsys.readouterr().err.splitlines()
    assert error == [line for line in error if line.startswith("error: ")] and len(error) == 1
    assert error[0].endswith(" — pip install 'formatproof[local]'")
    assert f"harness {args[0]}" in error[0] and " needs " in error[0]
    assert not (light / "out").exists(), "nothing is begun"


def test_the_light_commands_run(light, capsys):
    (light / "outputs.jsonl").write_text('{"id": "a", "text": "The sea was calm that evening."}\n')
    for args in (
        ["formats", "list"],
        ["formats", "check"],
        ["formats", "render", "llama3", "chat.json"],
        ["data", "check", "rows.jsonl"],
        ["recall", "outputs.jsonl", "--against", "rows.jsonl"],
        ["drift", "outputs.jsonl"],
        ["phrases", "outputs.jsonl", "--against", "outputs.jsonl"],
    ):
        assert main(args) in (0, 1), capsys.readouterr().err


def test_the_python_functions_say_it_too(light):
    import harness

    with pytest.raises(HarnessError, match=r"harness\.evaluate of a model on this machine needs"):
        harness.evaluate("MODEL")
    with pytest.raises(HarnessError, match=r"harness\.encode needs .*"):
        harness.encode([{"role": "user", "content": "a"}], "chatml", "MODEL")
    with pytest.raises(HarnessError, match=r"harness\.train needs"):
        harness.train("run.toml")


def test_a_missing_package_that_is_no_extra_of_ours_keeps_its_traceback():
    with pytest.raises(ModuleNotFoundError), explain_missing("harness x"):
        import no_such_package  # noqa: F401


def test_a_missing_module_of_an_installed_package_is_a_bug(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    monkeypatch.setattr("harness.extras.is_installed", lambda name: True)
    with pytest.raises(ModuleNotFoundError), explain_missing("harness x"):
        raise ModuleNotFoundError("No module named 'torch.gone'", name="torch.gone")


def test_require(monkeypatch):
    require("pytest", "this test")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert not is_installed("ray")
    with pytest.raises(HarnessError) as caught:
        require("ray", "--engine ray", "here")
    assert str(caught.value) == "here: --engine ray needs ray — pip install 'formatproof[ray]'"


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ImportError("Please install torch and gguf>=0.10.0 to load a GGUF checkpoint"), "gguf"),
        (ModuleNotFoundError("No module named 'gguf'", name="gguf"), "gguf"),
        (ModuleNotFoundError("No module named 'gguf.x'", name="gguf.x"), "gguf"),
        (ImportError("cannot import name 'x' from 'json'"), ""),
        (ModuleNotFoundError("No module named 'typo'", name="typo"), ""),
    ],
)
def test_an_import_error_is_about_a_package_that_is_not_there(monkeypatch, error, package):
    """transformers asks for gguf by a plain ImportError."""
    monkeypatch.setattr("harness.extras.is_installed", lambda name: name != "gguf")
    assert missing_package(error) == package
    kind = HarnessError if package else ImportError
    with pytest.raises(kind) as caught, explain_missing("harness eval"):
        raise error
    if package:
        assert str(caught.value).endswith("pip install 'formatproof[gguf]'")


def test_a_gguf_model_without_the_reader_says_what_to_install(monkeypatch, tmp_path, capsys):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(16))
    installed = is_installed
    monkeypatch.setattr("harness.extras.is_installed", lambda n: n != "gguf" and installed(n))
    for command in (
        ["eval", str(tmp_path / "m.gguf")],
        ["formats", "detect", str(tmp_path / "m.gguf")],
    ):
        assert main([*command]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "needs gguf" in line and "pip install 'formatproof[gguf]'" in line


def test_the_declared_floors_of_what_runs_models_are_the_versions_that_the_tests_run():
    """A floor that was never run is a promise; tox -e newest runs the other end."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    floors = dict(item.split(">=") for item in project["optional-dependencies"]["local"])
    pinned = (root / "constraints.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in pinned if "==" in line)
    for name in ("accelerate", "peft", "transformers"):
        assert f"{versions[name]}.".startswith(f"{floors[name]}."), name
