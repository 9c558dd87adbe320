"""The gate as a user runs it, with a fake in place of the model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# pytester forgets what is imported during a run, and numpy cannot be loaded twice, so what the
# gate imports late is imported here.
import scipy.stats  # noqa: F401

from harness.errors import HarnessError
from harness.evaluation import run as job
from harness.evaluation.analysis import build_report as reporting
from harness.formats import load_formats
from harness.gate.baseline_file import read_baseline

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
N = 160
"""Cases: enough that an unchanged model is shown to have lost less than its tolerance."""


class Gate:
    """``pytest eval/`` in a folder of its own.

    ``values`` are what the model will score, ``jobs`` the evaluations that were asked for.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, build) -> None:
        self.pytester = pytester
        self.build = build
        self.values: dict = {
            ("alpaca-newline", "stopped"): [1.0] * N,
            ("chatml", "stopped"): [1.0] * N,
            ("chatml", "choice"): [1.0] * N,
        }
        self.keys: dict = {"native": "chatml"}
        self.error: HarnessError | None = None
        self.jobs: list = []
        self.reports: list = []
        folder = pytester.mkdir("eval")
        for name in ("conftest.py", "test_gate.py"):
            shutil.copy(ROOT / "eval" / name, folder)
        pytester.makepyprojecttoml(
            '[tool.pytest.ini_options]\ntestpaths = ["tests"]\naddopts = "--strict-markers -ra"\n'
            'filterwarnings = ["error"]\n'
        )
        monkeypatch.setenv(
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"
        )  # loading them again for each run takes a second
        monkeypatch.setattr(job, "run_job", self._run_job)
        monkeypatch.setattr(reporting, "write_evaluation_report", self._write_report)

    def _run_job(self, asked, **_):
        self.jobs.append(asked)
        if self.error:
            raise self.error
        return self.build(self.values, **self.keys)

    def _write_report(self, evaluations, folder, **facts):
        self.reports.append((evaluations, folder, facts))

    def store(self, **table) -> None:
        """Write ``[gate]`` beside the tests."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        path = self.pytester.path / "eval" / "thresholds.toml"
        path.write_text("\n".join(["[gate]", *lines, ""]))

    def __call__(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("eval/", *args)

    def baseline(self) -> Path:
        """A baseline of the values as they are."""
        path = self.pytester.path / "base.json"
        assert (
            self("--gate-model", "m", "--gate-baseline", "base.json", "--gate-update-baseline").ret
            == 0
        )
        self.jobs.clear()
        return path


@pytest.fixture
def gate(pytester, monkeypatch, make_evaluation) -> Gate:
    return Gate(pytester, monkeypatch, make_evaluation)


def usage_error(result: pytest.RunResult) -> str:
    """The one line of a usage error. Nothing ran and nothing was skipped."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert not any(
        word in result.stdout.str() for word in ("passed", "failed", "skipped", "= gate =")
    )
    [line] = [line for line in result.stderr.str().splitlines() if line.startswith("ERROR: ")]
    return line


def test_without_a_model_the_gate_is_skipped_with_one_line(gate):
    result = gate()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*no model: pytest eval/ --gate-model PATH|NAME, or model*"]
    )
    assert result.ret == 0 and not gate.jobs


def test_help_and_collection_of_other_folders_need_no_model(gate):
    result = gate("--help")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*--gate-update-baseline*"])


def test_plain_pytest_runs_a_repositorys_own_tests_and_skips_the_gate(gate):
    """Even where the repository has a --model of its own, and runs its tests under xdist."""
    gate.store(model="m", baseline="base.json")
    gate.pytester.makeconftest(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--model')\n"
        "    parser.addoption('--numprocesses', dest='numprocesses', type=int)\n"
    )
    gate.pytester.makepyfile(**{"tests/test_other": "def test_other(): pass"})
    for args in ((), ("--model", "theirs"), ("--numprocesses", "2")):
        result = gate.pytester.runpytest_inprocess(".", *args)
        result.assert_outcomes(passed=1, skipped=1)
        result.stdout.fnmatch_lines(["SKIPPED*the gate runs when it is asked for: pytest eval/"])
    assert not gate.jobs


def test_a_repositorys_own_model_option_is_left_alone(gate):
    gate.pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--model')\n")
    result = gate("--gate-model", "m", "--model", "theirs")
    assert result.ret == 0 and [asked.model for asked in gate.jobs] == ["m"]


def test_the_stored_table_is_enough_and_flags_win(gate):
    gate.store(
        model="m",
        adapter="lora",
        native="chatml",
        formats=["chatml", "alpaca-newline"],
        limit=80,
        baseline="base.json",
    )
    assert "no such baseline — make it: pytest eval/ --gate-update-baseline" in usage_error(gate())
    made = gate("--gate-update-baseline")
    made.stdout.fnmatch_lines(["next: pytest eval/  (compares with it)"])
    result = gate("--gate-limit", "5", "--gate-adapter", "other")
    asked = gate.jobs[-1]
    assert (asked.model, asked.adapter, asked.native, asked.limit) == ("m", "other", "chatml", 5)
    assert asked.formats == ("chatml", "alpaca-newline")
    result.stdout.fnmatch_lines(["baseline: base.json*"])
    without = gate("--gate-adapter", "", "--gate-native", "", "--gate-baseline", "")
    assert (gate.jobs[-1].model, gate.jobs[-1].adapter, gate.jobs[-1].native) == ("m", None, None)
    without.stdout.no_fnmatch_line("baseline: base.json*")
    gate.store(model="m", limmit=3)
    assert "thresholds.toml: gate: limmit: unknown key — did you mean limit?" in usage_error(gate())


def test_a_server_is_asked_at_its_address(gate, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    gate("--gate-model", "m", "--gate-endpoint", "http://localhost:1/v1")
    [asked] = gate.jobs
    assert asked.engine == "openai"
    assert asked.engine_options == {"url": "http://localhost:1/v1", "api_key": "secret"}


def test_the_options_reach_the_evaluation(gate):
    cases = gate.pytester.path / "own.jsonl"
    gate(
        "--gate-model",
        "m",
        "--gate-adapter",
        "lora",
        "--gate-formats",
        "chatml, alpaca-newline",
        "--gate-formats-dir",
        str(ROOT / "formats"),
        "--gate-cases",
        str(cases),
        "--gate-limit",
        "5",
    )
    [asked] = gate.jobs
    assert (asked.model, asked.adapter, asked.formats, asked.limit) == (
        "m",
        "lora",
        ("chatml", "alpaca-newline"),
        5,
    )
    assert (asked.formats_dirs, asked.cases) == ((str(ROOT / "formats"),), (str(cases),))
    assert asked.out == gate.pytester.path / "build" / "gate"
    assert not asked.recall


def test_an_artefact_takes_the_place_of_the_stored_model(gate):
    gate.baseline()
    gate.store(model="m", adapter="lora", baseline="base.json", native="chatml")
    assert gate("--gate-artefact", "out/m-Q4_K_M.gguf").ret == 0
    [asked] = gate.jobs
    assert (asked.model, asked.adapter, asked.engine) == ("out/m-Q4_K_M.gguf", None, "llamacpp")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--gate-formats", "chatmi"], "unknown format 'chatmi' — did you mean chatml"),
        (["--gate-formats-dir", "none"], "none: no such folder of formats"),
        (["--gate-limit", "0"], "--gate-limit 0: at least 1 case"),
        (
            ["--gate-update-baseline"],
            "--gate-update-baseline needs --gate-baseline FILE — "
            "pytest eval/ --gate-model m --gate-baseline eval/baselines/m.json --gate-update-baseline",
        ),
        (
            ["--gate-baseline", "no.json"],
            "no.json: no such baseline — "
            "make it: pytest eval/ --gate-model m --gate-baseline no.json --gate-update-baseline",
        ),
        (["--gate-baseline", "eval"], "eval: cannot read the baseline"),
        (["--gate-baseline", "pyproject.toml"], "pyproject.toml:1: not JSON"),
    ],
)
def test_mistakes_are_usage_errors_before_any_evaluation(gate, args, words):
    assert words in usage_error(gate("--gate-model", "m", *args))
    assert not gate.jobs


def test_a_model_that_cannot_be_loaded_is_a_usage_error(gate):
    gate.error = HarnessError("no model at 'm'", hint="give a model folder")
    assert usage_error(gate("--gate-model", "m")) == "ERROR: no model at 'm' — give a model folder"


def test_a_bug_keeps_its_traceback(gate):
    gate.error = RuntimeError("ours")
    result = gate("--gate-model", "m")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert "RuntimeError: ours" in result.stdout.str() + result.stderr.str()


def test_xdist_is_refused(gate):
    gate.pytester.makepyfile(
        fake_xdist="def pytest_addoption(parser):\n"
        "    parser.addoption('--numprocesses', dest='numprocesses', type=int)\n"
    )
    gate.pytester.syspathinsert()
    assert "leave out -n (pytest-xdist)" in usage_error(
        gate("-p", "fake_xdist", "--gate-model", "m", "--numprocesses", "2")
    )
    assert gate("-p", "fake_xdist", "--gate-model", "m", "--numprocesses", "0").ret == 0


def test_the_real_xdist_is_refused(gate):
    pytest.importorskip("xdist")
    assert "leave out -n (pytest-xdist)" in usage_error(
        gate("-p", "xdist.plugin", "--gate-model", "m", "-n", "2")
    )


def test_without_a_baseline_the_absolute_limits_judge(gate):
    gate.values["chatml", "stopped"] = [0.0] * 80 + [1.0] * 80
    result = gate("--gate-model", "models/tiny")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*test_gate[[]chatml-stopped[]]*",
            "chatml · stopped: .50 (at least .90, n 160)",
            "worst case: answer-000",
            "tiny: 1 failed, 1 inconclusive, 1 passed",
            "formats with failed checks: chatml",
            "  chatml: stopped .50",
            "unclear: chatml, alpaca-newline",
            "baseline: none, judged by the absolute limits*",
            "next: look at answer-000 in chatml: pytest eval/ --gate-model models/tiny "
            "--gate-report-dir *build/gate",
        ]
    )
    gate.values["chatml", "stopped"] = [1.0] * N
    gate("--gate-model", "models/tiny").stdout.fnmatch_lines(
        [
            "tiny: 3 passed",
            "next: pytest eval/ --gate-model models/tiny "
            "--gate-baseline eval/baselines/tiny.json --gate-update-baseline*",
        ]
    )


def test_the_baseline_is_made_whole_and_then_holds(gate):
    result = gate("--gate-model", "m", "--gate-baseline", "new/base.json", "--gate-update-baseline")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "m: 3 new",
            "baseline: new/base.json (new, 3 entries)",
            "next: pytest eval/ --gate-model m --gate-baseline new/base.json  (compares with it)",
        ]
    )
    assert len(read_baseline(gate.pytester.path / "new" / "base.json").entries) == 3
    again = gate("--gate-model", "m", "--gate-baseline", "new/base.json")
    again.assert_outcomes(passed=3)
    again.stdout.fnmatch_lines(
        [
            "m: 3 passed",
            "baseline: new/base.json (made with tiny)",
            "next: nothing to do; the baseline stays as it is",
        ]
    )


def test_a_loss_fails_with_two_lines_and_no_traceback(gate):
    gate.baseline()
    gate.values["alpaca-newline", "stopped"] = [1.0] * 114 + [0.0] * 46
    result = gate("--gate-model", "m", "--gate-baseline", "base.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, failed=1)
    lines = result.stdout.lines
    start = next(
        index for index, line in enumerate(lines) if "test_gate[alpaca-newline-stopped] _" in line
    )
    assert (
        lines[start + 1]
        == "alpaca-newline · stopped: 1.00 → .71 (−.29, tolerance −.02, n 160, p < .0001)"
    )
    assert lines[start + 2] == "worst case: answer-114"
    assert lines[start + 3].startswith("====")


def test_the_summary_names_what_broke_worst_first_and_ends_with_the_next_command(gate):
    gate.values["zephyr", "leak"] = [0.0] * N
    gate.baseline()
    gate.values["alpaca-newline", "stopped"] = [1.0] * 114 + [0.0] * 46
    gate.values["chatml", "stopped"] = [0.0] * N
    gate.values["chatml", "choice"] = [0.0] * 80 + [1.0] * 80
    del gate.values["zephyr", "leak"]
    result = gate("--gate-model", "m", "--gate-baseline", "base.json")
    result.stdout.fnmatch_lines(
        [
            "FAILED eval/test_gate.py::test_gate[[]alpaca-newline-stopped[]]*",
            "*= gate =*",
            "m: 4 failed, 1 missing",
            "formats with failed checks: chatml, zephyr, alpaca-newline",
            "  chatml: works → broken, stopped −1.00, choice −.50",
            "  zephyr: leak missing",
            "  alpaca-newline: stopped −.29",
            "baseline: base.json (made with tiny)",
            "next: look at answer-000 in chatml: pytest eval/ --gate-model m "
            "--gate-report-dir *build/gate --gate-baseline base.json",
            "*5 failed*",
        ],
        consecutive=False,
    )
    assert result.stdout.lines[-2].startswith("next: ")


def test_a_changed_template_is_stale(gate):
    gate.baseline()
    gate.keys["digests"] = {"chatml": "other"}
    result = gate("--gate-model", "m", "--gate-baseline", "base.json")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["chatml · stopped: 1.00 → 1.00 (stale, n 160)", "why: the template of chatml changed"]
    )


def test_no_case_in_common_fails(gate):
    gate.baseline()
    gate.keys["prefix"] = "other-"
    result = gate("--gate-model", "m", "--gate-baseline", "base.json")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["why: no case in common with the baseline (160 there, 160 here)"])


def test_an_update_passes_and_says_what_changed(gate):
    path = gate.baseline()
    gate.values["chatml", "stopped"] = [0.0] * N
    del gate.values["alpaca-newline", "stopped"]
    gate.values["zephyr", "stopped"] = [1.0] * N
    result = gate("--gate-model", "m", "--gate-baseline", "base.json", "--gate-update-baseline")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "m: 3 new, 1 passed",
            "  alpaca-newline · stopped: 1.00 → not scored dropped: the format was not evaluated",
            "  chatml · stopped: 1.00 → .00 (−1.00, "
            "tolerance −.02, n 160, p < .0001) updated: failed",
            "baseline: base.json (updated, 3 entries)",
        ]
    )
    assert read_baseline(path).entry("chatml", "stopped").mean == 0


def test_an_update_of_some_formats_does_not_throw_the_others_away(gate):
    path = gate.baseline()
    before = path.read_bytes()
    line = usage_error(
        gate(
            "--gate-model",
            "m",
            "--gate-baseline",
            "base.json",
            "--gate-update-baseline",
            "--gate-formats",
            "chatml",
        )
    )
    assert "would drop 1 of its formats (alpaca-newline)" in line
    assert path.read_bytes() == before


def test_formats_that_were_not_asked_for_are_not_missing(gate):
    gate.baseline()
    del gate.values["alpaca-newline", "stopped"]
    result = gate("--gate-model", "m", "--gate-baseline", "base.json", "--gate-formats", "chatml")
    result.assert_outcomes(passed=2)
    gate("--gate-model", "m", "--gate-baseline", "base.json").assert_outcomes(passed=2, failed=1)


def test_kinds_of_case_that_were_not_asked_for_are_not_missing(gate):
    gate.baseline()
    del gate.values["chatml", "choice"]
    gate(
        "--gate-model", "m", "--gate-baseline", "base.json", "--gate-cases", "own.jsonl"
    ).assert_outcomes(passed=2)
    gate("--gate-model", "m", "--gate-baseline", "base.json").assert_outcomes(passed=2, failed=1)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--gate-baseline", "base.json"],
        ["--gate-baseline", "base.json", "--gate-update-baseline"],
    ],
)
def test_nothing_scored_fails_and_writes_nothing(gate, args):
    path = gate.baseline()
    before = path.read_bytes()
    gate.values = {("chatml", "stopped"): [None, None]}
    gate.keys["why"] = "the template cannot carry a system turn"
    result = gate("--gate-model", "m", *args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["every format · every metric: not scored", "why: the template cannot carry a system turn"]
    )
    gate.values = {}
    gate("--gate-model", "m", *args).assert_outcomes(failed=1)
    assert path.read_bytes() == before


def test_nothing_to_judge_is_a_usage_error_not_a_skip(gate):
    gate.values = {("chatml", "choice"): [1.0]}
    gate.keys = {"native": None}
    line = usage_error(gate("--gate-model", "m"))
    assert "nothing to judge" in line
    assert "(choice)" in line
    assert line.endswith(
        "pytest eval/ --gate-model m --gate-baseline eval/baselines/m.json --gate-update-baseline"
    )


def test_a_report_is_written_only_when_asked_for(gate):
    gate("--gate-model", "m")
    assert gate.reports == []
    gate("--gate-model", "m", "--gate-report-dir", "out", "--gate-limit", "9")
    [(evaluations, folder, facts)] = gate.reports
    assert (len(evaluations), folder, facts) == (1, Path("out"), {"model": "m", "limit": 9})
    assert gate.jobs[-1].out == Path("out")


def test_collecting_only_writes_nothing(gate):
    result = gate(
        "--gate-model",
        "m",
        "--gate-baseline",
        "base.json",
        "--gate-update-baseline",
        "--gate-report-dir",
        "out",
        "--collect-only",
        "-q",
    )
    result.stdout.fnmatch_lines(["eval/test_gate.py::test_gate[[]alpaca-newline-stopped[]]"])
    assert not (gate.pytester.path / "base.json").exists()
    assert gate.reports == []
    assert "next:" not in result.stdout.str()


def test_a_baseline_that_cannot_be_written_is_a_usage_error(gate):
    gate.pytester.makefile(".txt", file="in the way")
    result = gate(
        "--gate-model", "m", "--gate-baseline", "file.txt/base.json", "--gate-update-baseline"
    )
    assert "file.txt: a file, where a folder is expected" in usage_error(result)
    assert "updated" not in result.stdout.str()


def test_a_librarys_warning_does_not_fail_the_gate(gate, monkeypatch):
    import warnings

    plain = gate._run_job

    def warning_job(asked, **keys):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return plain(asked, **keys)

    monkeypatch.setattr(job, "run_job", warning_job)
    assert gate("--gate-model", "m").ret == 0


def test_another_environment_and_thin_comparisons_are_noted(gate):
    gate.baseline()
    gate.keys["environment"] = {"dtype": "bfloat16"}
    gate.values["chatml", "choice"] = [1.0] + [None] * 159
    result = gate("--gate-model", "m", "--gate-baseline", "base.json")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "note: not the baseline's environment: dtype float32 → bfloat16",
            "note: compared on less than half of the baseline's cases: chatml choice 1 of 160",
        ]
    )


@pytest.mark.parametrize(
    ("folder", "args"),
    [
        (".", ["eval/", "--gate-model", "formats"]),
        ("eval", ["--gate-model", "formats"]),
        (".", ["--gate-model", "formats", "eval/", "--gate-adapter", "docs"]),
    ],
)
def test_the_real_folder_from_the_root_and_from_inside(folder, args):
    """In a process of its own the options are known in time, whatever comes first.

    Neither torch nor a model is loaded before the mistake is found.
    """
    script = (
        "import sys, pytest; code = pytest.main(sys.argv[1:]);"
        " assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [
        sys.executable,
        "-c",
        script,
        *args,
        "--gate-baseline",
        "none.json",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT / folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no such baseline" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_what_is_new_is_added_and_the_rest_is_judged(gate):
    path = gate.baseline()
    before = path.read_text()
    gate.values[("chatml", "stopped")] = [0.0] * 80 + [1.0] * 80
    gate.values[("llama3", "stopped")] = [1.0] * N
    result = gate("--gate-model", "m", "--gate-baseline", "base.json", "--gate-update-baseline=new")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*chatml · stopped: 1.00 → .50*", "*1 new entries added*"])
    found = read_baseline(path)
    assert found.entry("llama3", "stopped").mean == found.entry("chatml", "stopped").mean == 1.0
    assert set(before.splitlines()) - set(path.read_text().splitlines()) <= {
        line for line in before.splitlines() if line.endswith(("}}", "}", '"'))
    }
    gate.values[("chatml", "stopped")] = [1.0] * N
    assert gate("--gate-model", "m", "--gate-baseline", "base.json").ret == 0


def test_new_cells_on_other_cases_are_refused(gate):
    gate.baseline()
    gate.values = {place: column[:30] for place, column in gate.values.items()} | {
        ("llama3", "stopped"): [1.0] * 30
    }
    assert "the answer cases are not those of the baseline (160 there, 30 here)" in usage_error(
        gate("--gate-model", "m", "--gate-baseline", "base.json", "--gate-update-baseline=new")
    )


def test_a_path_behind_update_baseline_is_not_swallowed(gate):
    result = gate.pytester.runpytest_inprocess(
        "--gate-model", "m", "--gate-baseline", "b.json", "--gate-update-baseline", "eval/"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "put --gate-update-baseline last" in result.stderr.str()


def test_a_demand_without_a_baseline_is_all_that_is_judged(gate):
    assert gate("--gate-model", "m", "--gate-require", "all.stopped >= .9").ret == 0
    gate.values[("alpaca-newline", "stopped")] = [0.0] * N
    result = gate("--gate-model", "m", "--gate-require", "held_out.stopped >= .9")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*held_out · stopped: .00 (at least .90, n 160)*",
            "*required: held_out.stopped >= .9; worst format: alpaca-newline*",
        ]
    )
    assert "invalid --gate-require" in usage_error(
        gate("--gate-model", "m", "--gate-require", "stopped")
    )


def test_thresholds_beside_the_tests_are_the_ones_that_count(gate):
    gate.baseline()
    gate.values[("chatml", "stopped")] = [0.0] * 32 + [1.0] * 128
    assert (
        gate("--gate-model", "m", "--gate-baseline", "base.json").ret
        == pytest.ExitCode.TESTS_FAILED
    )
    (gate.pytester.path / "eval" / "thresholds.toml").write_text("[tolerances]\nstopped = 0.3\n")
    assert gate("--gate-model", "m", "--gate-baseline", "base.json").ret == 0
    (gate.pytester.path / "eval" / "thresholds.toml").write_text("[tolerances]\nstoped = 0.3\n")
    assert "eval/thresholds.toml: tolerances: unknown metric 'stoped'" in usage_error(
        gate("--gate-model", "m", "--gate-baseline", "base.json")
    )


def test_failures_stand_beside_a_pull_request_on_github(gate, monkeypatch):
    gate.baseline()
    gate.values[("chatml", "stopped")] = [0.0] * N
    assert "::error" not in gate("--gate-model", "m", "--gate-baseline", "base.json").stdout.str()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = gate("--gate-model", "m", "--gate-baseline", "base.json", "--junitxml", "found.xml")
    result.stdout.fnmatch_lines(
        [
            "::error title=gate chatml stopped::"
            "chatml · stopped: 1.00 → .00*%0Aworst case: answer-000"
        ]
    )
    assert 'name="test_gate[chatml-stopped]"' in (gate.pytester.path / "found.xml").read_text()


def test_a_job_on_github_has_a_summary_and_a_comment(gate, monkeypatch):
    summary = gate.pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    gate.baseline()
    gate.values[("chatml", "stopped")] = [0.0] * N
    asked = ("--gate-model", "my-model", "--gate-baseline", "base.json", "--gate-report-dir", "out")
    gate(*asked)
    comment = (gate.pytester.path / "out" / "comment.md").read_text()
    lines = comment.splitlines()
    assert lines[:2] == ["<!-- formatproof gate eval/ -->", "## Format gate: failed"]
    assert lines[3].startswith("`my-model`: ") and " failed" in lines[3]
    assert "- chatml · stopped: 1.00 → .00" in comment and "worst case: answer-000" in comment
    assert summary.read_text().endswith(f"{comment}\n")
    gate.values[("chatml", "stopped")] = [1.0] * N  # control: the same run without a loss
    gate(*asked)
    passed = (gate.pytester.path / "out" / "comment.md").read_text()
    assert "## Format gate: passed\n" in passed and "worst case" not in passed
    gate.error = HarnessError("no model at 'my-model'")
    usage_error(gate(*asked))
    stopped = (gate.pytester.path / "out" / "comment.md").read_text()
    assert "it did not run" in stopped and "no model at 'my-model'" in stopped
    assert stopped.splitlines()[0] == lines[0]


def test_without_a_report_folder_no_comment_is_written(gate):
    gate("--gate-model", "m")
    assert not list(gate.pytester.path.rglob("comment.md"))


def test_a_summary_that_cannot_be_written_is_a_usage_error(gate, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(gate.pytester.path))
    result = gate("--gate-model", "m")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "cannot write the job's summary: Is a directory" in result.stderr.str()


def test_drawn_formats_of_a_baseline_are_measured_without_naming_them(gate):
    name = "grammar:2:seed=5"
    gate.keys = {"native": None}
    gate.values = {(drawn.id, "stopped"): [1.0] * N for drawn in load_formats().select([name])}
    made = gate(
        "--gate-model",
        "m",
        "--gate-formats",
        name,
        "--gate-baseline",
        "b.json",
        "--gate-update-baseline",
    )
    made.assert_outcomes(passed=2)
    gate("--gate-model", "m", "--gate-baseline", "b.json").assert_outcomes(
        passed=3
    )  # and their mean
    assert gate.jobs[-1].formats == (name,)
