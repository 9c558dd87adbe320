"""The command: quick to start, light, and clear about mistakes."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys

import pytest

from harness.cli.arguments import parse
from harness.cli.eval_options import EvalOptions
from harness.cli.main import COMMANDS, GROUPS, entry, main, run_command


def cpu_seconds(*args):
    """CPU time of a process: wall clock would also measure the other work of the machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *args], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("command", [["--help"], ["formats", "list"]])
def test_it_starts_in_under_three_tenths_of_a_second(command):
    """More than an empty interpreter; the least of several, because other work only adds."""
    extra = [cpu_seconds("-m", "harness", *command) - cpu_seconds("-c", "pass") for _ in range(5)]
    assert min(extra) < 0.3


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["formats", "list"],
        ["formats", "check", "chatml"],
        ["data", "check"],
        ["train", "--help"],
        ["eval", "--help"],
        ["demo", "--help"],
    ],
)
def test_torch_is_not_imported(command):
    code = (
        "import contextlib, sys\nfrom harness.cli.main import main\n"
        f"with contextlib.suppress(SystemExit): main({command!r})\n"
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert out.rstrip().endswith("[]")


def test_every_command_has_help(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as caught:
            main([*name.split(), "--help"])
        assert caught.value.code == 0
        assert len(capsys.readouterr().out) > 100, name


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fromats"], "did you mean formats?"),
        (["formats", "lst"], "did you mean list?"),
        (["formats", "show", "lama3"], "did you mean llama3"),
        (["formats", "render", "chatml", "no-such.json"], "no-such.json: cannot read"),
        (["eval", "./no/model"], "no model at './no/model'"),
        (["eval", "x", "--formats", "chatml,zefir"], "did you mean zephyr"),
        (["eval", "x", "--cases", "no-such.jsonl"], "no-such.jsonl: no such file"),
        (["train", "no-such.toml"], "no-such.toml: no such file"),
        (["report", "no-such.json"], "no-such.json"),
        (["eval", "x", "--limit", "many"], "invalid --limit 'many': expected a whole number"),
        (["eval", "x", "--top-p", "high"], "invalid --top-p 'high': expected a number"),
        (["eval", "x", "--dtype", "int3"], "invalid --dtype 'int3': expected one of 'auto'"),
        (["eval", "x", "--limit", "0"], "invalid --limit 0: expected at least 1"),
        (
            ["eval", "x", "--formts", "chatml"],
            "unknown option --formts: did you mean --formats?",
        ),
        (["eval", "x", "--seed"], "--seed needs a value — see harness eval --help"),
        (["eval"], "missing MODEL"),
        (["compare", "one"], "missing AFTER"),
        (["recall", "outputs.jsonl"], "missing --against"),
        (["train", "--lora-r", "big"], "invalid --lora-r 'big': expected a whole number"),
        (
            ["formats", "sample", "--split", "x"],
            "invalid --split 'x': expected one of 'test', 'train' — see",
        ),
        (["data", "canaries", "folder", "--n", "0"], "invalid --n 0: expected at least 1"),
        (
            ["data", "canaries", "folder", "--null", "0"],
            "invalid --null 0: expected at least 1",
        ),
        (["data", "canaries", "folder", "--copies", "0"], "invalid --copies"),
        (["data", "canaries", "folder", "--copies"], "--copies needs a value"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args, message, capsys):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert message in err and err.startswith("error: ") and err.count("\n") == 1 and out == ""


@pytest.mark.parametrize("command", [["report"], ["formats", "render", "chatml"]])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5000, "not JSON"),
    ],
)
def test_a_file_that_is_no_json_is_one_line(command, content, message, tmp_path, capsys):
    (tmp_path / "bad.json").write_bytes(content)
    assert main([*command, str(tmp_path / "bad.json")]) == 2
    error = capsys.readouterr().err
    assert f"bad.json: {message}" in error and error.count("\n") == 1


def test_usage_and_help_show_the_name_that_was_called(monkeypatch, capsys):
    for path, name in (("/bin/formatproof", "formatproof"), ("/x/pytest", "harness")):
        monkeypatch.setattr("sys.argv", [path])
        assert main(["--help"]) == 0
        assert f"usage: {name} <command>" in capsys.readouterr().out
        assert main(["eval"]) == 2
        assert f"see {name} eval --help" in capsys.readouterr().err


def test_a_docstring_of_several_lines_is_one_paragraph_of_help(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    help_text = capsys.readouterr().out
    assert "the base is loaded once, and each adapter is a run of the report." in help_text


def test_old_names_of_flags_still_work(capsys):
    for flags in (
        ["--samples-per-case", "3"],
        ["--draws", "3"],
        ["--temperature", "1", "--twins", "x"],
    ):
        assert main(["eval", "no-such-model", *flags]) == 2
        assert "unknown option" not in capsys.readouterr().err


def test_ctrl_c_is_exit_code_130(monkeypatch, capsys):
    monkeypatch.setattr(
        "harness.cli.formats.list_formats", lambda args: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert main(["formats", "list"]) == 130
    assert "resumes from there" in capsys.readouterr().err


def test_a_bug_of_ours_is_a_traceback_and_exit_code_3(monkeypatch, capsys):
    """And findings keep 1, mistakes of the user 2: a job can tell them apart."""
    monkeypatch.setattr("harness.cli.formats.list_formats", lambda args: {}["no such key"])
    monkeypatch.setattr("sys.argv", ["harness", "formats", "list"])
    with pytest.raises(SystemExit) as ended:
        entry()
    error = capsys.readouterr().err
    assert ended.value.code == 3
    assert "Traceback" in error and "KeyError: 'no such key'" in error
    assert error.rstrip().endswith("Please report it with your command and the lines above.")
    monkeypatch.setattr("sys.argv", ["harness", "formats", "lst"])
    with pytest.raises(SystemExit) as ended:
        entry()
    assert ended.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_the_help_shows_each_command_once_in_its_group(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    titles = [line.removesuffix(":") for line in lines if line.endswith(":")]
    assert titles == list(GROUPS) and len(titles) > 5
    shown = [re.split(" {2,}", line.strip())[0] for line in lines if line.startswith("  ")]
    assert shown == list(COMMANDS) and len(set(shown)) == len(shown)


def test_help_and_version_are_words_too(capsys):
    assert main(["version"]) == 0 and "harness 0" in capsys.readouterr().out
    assert main(["help"]) == 0 and "usage: harness <command>" in capsys.readouterr().out
    assert main(["help", "formats"]) == 0 and "usage: harness formats" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["help", "formats", "list"])
    assert ended.value.code == 0 and "usage: harness formats list" in capsys.readouterr().out


def test_lists_come_as_json(capsys):
    assert main(["formats", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"id", "family", "stops"} <= set(rows[0])


def test_check_is_silent_about_good_formats(capsys):
    assert main(["formats", "check", "--strict"]) == 0
    assert "  - " not in capsys.readouterr().out


def test_preview_marks_what_is_trained(tmp_path, tiny_model, capsys):
    file = tmp_path / "m.json"
    file.write_text(
        json.dumps([{"role": "user", "content": "fox"}, {"role": "assistant", "content": "dog"}])
    )
    page = tmp_path / "p.html"
    assert (
        main(
            [
                "preview",
                str(file),
                "--format",
                "chatml",
                "--model",
                str(tiny_model),
                "--html",
                str(page),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "‹<|im_end|>›" in out and "‹<|im_start|>›" not in out
    assert 'class="answer"' in page.read_text() and 'class="stop"' in page.read_text()


@pytest.mark.local
def test_memory_that_ends_where_nothing_smaller_can_be_tried_is_one_line(capsys):
    import torch

    def command(errors):
        raise errors[0]

    texts = {
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB.\nGPU 0 has"): (
            "error: out of memory: CUDA out of memory. Tried to allocate 2 MiB — "
        ),
        MemoryError(): "error: out of memory — ",
    }
    for error, begins in texts.items():
        assert run_command(command, [error]) == 2
        line = capsys.readouterr().err
        assert line.startswith(begins) and line.count("\n") == 1
    with pytest.raises(RuntimeError, match="device-side"):  # control: our bugs keep theirs
        run_command(command, [RuntimeError("CUDA error: device-side assert triggered")])


def raising(error):
    def command(args):
        raise error

    return command


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (errno.EACCES, "permission denied — change its permissions, or choose another path"),
        (errno.EPERM, "operation not permitted — change its permissions, or choose another path"),
        (errno.ELOOP, "too many levels of symbolic links — its links lead back to itself"),
        (errno.ENAMETOOLONG, "file name too long — give a shorter path"),
        (errno.ENOSPC, "no space left on device — free some space, and start the same command"),
        (errno.EROFS, "read-only file system — choose another path"),
    ],
)
def test_a_path_that_the_system_refuses_is_one_line(code, line, capsys):
    assert run_command(raising(OSError(code, os.strerror(code), "runs/run.json")), []) == 2
    assert capsys.readouterr().err.startswith(f"error: runs/run.json: {line}")


def test_other_errors_of_files_are_bugs():
    """As a missing file is that nobody checked, or a socket's error, which has no path."""
    for error in (FileNotFoundError(errno.ENOENT, "x", "a"), PermissionError(errno.EACCES, "x")):
        with pytest.raises(OSError, match="x"):
            run_command(raising(error), [])


@pytest.mark.parametrize("command", ["view", "compare b", "resume", "data check"])
def test_a_name_that_is_too_long_is_one_line(command, capsys):
    name, *rest = command.split(" b")
    assert main([*name.split(), "x" * 5000, *["b" for _ in rest]]) == 2
    assert capsys.readouterr().err.endswith("file name too long — give a shorter path\n")


def test_an_option_is_repeated_or_takes_several_words():
    given = parse(EvalOptions, ["m", "--adapter", "a", "--adapter", "b"], "eval", "")
    assert given.adapter == ("a", "b")
    assert parse(EvalOptions, ["m", "--formats", "a", "b"], "eval", "").formats == ("a", "b")
