"""The viewer: what it shows at each moment of a run, and whom it answers."""

from __future__ import annotations

import http.client
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest

from harness import progress as progress_module
from harness.cli.main import main
from harness.errors import HarnessError
from harness.progress import expect, note, progress, recording
from harness.view.live import duration, read_progress, time_left
from harness.view.server import HOST, page_of, serve, version_of
from tests.patience import HANG_S
from tests.report.fixture import make

STEP = {
    "kind": "step",
    "step": 3,
    "epoch": 0.5,
    "loss": 1.25,
    "learning_rate": 1e-3,
    "sum_lr": 3e-3,
}


@contextmanager
def served(folder):
    server = serve(folder)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def ask(
    port: int, path: str = "/", method: str = "GET", host: str | None = None
) -> tuple[int, str, dict]:
    connection = http.client.HTTPConnection(HOST, port, timeout=HANG_S)
    connection.request(method, path, headers={"Host": host or f"{HOST}:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), dict(answer.headers)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps(STEP) + "\n" + '{"kind": "step", "st'
    )  # the last line is being written
    return tmp_path


def test_a_training_run_that_goes_on(run):
    page = page_of(run)
    assert "step 3, epoch 0.5, loss 1.250" in page and "<svg" in page
    assert 'http-equiv="refresh"' in page


ANSWER = {"text": "Oslo.", "finish": "stop"}
OPTIONS = [{"logprob": -2.0, "tokens": 1}, {"logprob": -1.0, "tokens": 1}]
CELLS = [
    ("c1", "choice", OPTIONS),
    ("c2", "choice", OPTIONS),
    ("c3", "choice", OPTIONS),
    ("unknown", "choice", OPTIONS),
    ("a1", "answer", ANSWER),
    ("a2", "answer", {"text": " ", "finish": "length"}),
    ("a3", "answer", ANSWER),
    ("r1", "reference", [{"logprob": -6.0, "tokens": 3}]),
]


def store(folder, engine: str = "{}", name: str = "<b>a") -> None:
    """A results file with the cells of one engine in one format."""
    with closing(sqlite3.connect(folder / "results.sqlite")) as db, db:
        db.executescript(
            "CREATE TABLE IF NOT EXISTS engine (id INTEGER PRIMARY KEY, facts TEXT);"
            "CREATE TABLE IF NOT EXISTS format (id INTEGER PRIMARY KEY, name TEXT);"
            "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, name TEXT);"
            "CREATE TABLE IF NOT EXISTS cell"
            " (engine INTEGER, format INTEGER, item INTEGER, probe TEXT, payload TEXT);"
        )
        at = [
            db.execute(f"INSERT INTO {table} VALUES (NULL, ?)", (value,)).lastrowid
            for table, value in (("engine", engine), ("format", name))
        ]
        for case, kind, payload in CELLS:
            item = db.execute("INSERT INTO item VALUES (NULL, ?)", (case,)).lastrowid
            row = (*at, item, kind, json.dumps(payload))
            db.execute("INSERT INTO cell VALUES (?, ?, ?, ?, ?)", row)


def test_an_evaluation_without_a_progress_file(tmp_path):
    store(tmp_path)
    page = page_of(tmp_path)
    assert read_progress(tmp_path).sentence == "8 results in 1 format", "who writes is not known"
    assert "8 results in 1 format" in page and "&lt;b&gt;a" in page


def test_scores_so_far_are_those_of_this_runs_engine(tmp_path):
    store(tmp_path, '{"adapter": "x"}', "other")
    store(tmp_path, '{"adapter": ""}', "chatml")
    with recording(tmp_path):
        note(
            engine={"adapter": ""},
            right={"c1": 1, "c2": 0, "c3": 1, "r1": 0},
            words={"zephyr": "broken"},
        )
        found = read_progress(tmp_path).formats
    assert set(found) == {"chatml", "zephyr"} and found["zephyr"].word == "broken"
    one = found["chatml"]
    assert (one.right, one.choices) == (2, 3), "the option with the highest log-probability counts"
    assert (one.stopped, one.empty, one.answers) == (2, 1, 3)
    assert (one.references, one.nll) == (1, 2.0)


def test_total_and_time_left(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    with recording(tmp_path):
        expect("evaluate: score", 40)
        expect("evaluate: answer", 20)
        with progress("evaluate: score", 40, quiet=True) as bar:
            for _ in range(10):
                now[0] += 2.0
                bar.advance()
            found = read_progress(tmp_path)
    assert found.running and [time_left(phase) for phase in found.phases] == [
        "about 60 s left",
        "not started",
    ]
    assert found.sentence == "10 of 60 done (17%); about 60 s left, then evaluate: answer"
    assert "10 of 60 done (17%)" in page_of(tmp_path)
    over = read_progress(tmp_path)
    assert not over.running and "no process is working on it now" in over.sentence


def test_what_a_resumed_run_had_done_is_not_its_pace(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    with recording(tmp_path), progress("train", 100, quiet=True, done=90) as bar:
        [phase] = read_progress(tmp_path).phases
        assert (phase.done, time_left(phase)) == (90, "not known yet")
        for _ in range(5):
            now[0] += 4.0
            bar.advance()
        [phase] = read_progress(tmp_path).phases
        assert (phase.done, phase.left_s) == (95, 20.0)
        bar.advance(5)
        over = read_progress(tmp_path)
    assert over.sentence == "100 of 100 done (100%)" and time_left(over.phases[0]) == "done"


def test_a_run_that_was_killed_is_not_at_work(tmp_path, monkeypatch):
    def refuse(pid, signal):
        raise PermissionError

    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with recording(tmp_path), progress("train", 3, quiet=True) as bar:
        bar.advance()
        record = json.loads((tmp_path / "progress.json").read_text())
    assert record["finished"] is False and record["pid"] == os.getpid()
    (tmp_path / "progress.json").write_text(json.dumps({**record, "pid": child.pid}))
    assert not read_progress(tmp_path).running
    (tmp_path / "progress.json").write_text(json.dumps({**record, "pid": 10**30}))
    assert not read_progress(tmp_path).running
    elsewhere = {**record, "pid": child.pid, "machine": "another"}
    (tmp_path / "progress.json").write_text(json.dumps(elsewhere))
    assert read_progress(tmp_path).running, "as the file says"
    (tmp_path / "progress.json").write_text(json.dumps(record))
    monkeypatch.setattr("harness.view.live.os.kill", refuse)
    assert read_progress(tmp_path).running, "another user's process"
    for damaged in ("", "{", "[]", '{"pid": "x"}', '{"phases": [{"name": 1}]}'):
        (tmp_path / "progress.json").write_text(damaged)
        assert read_progress(tmp_path).phases == ()


def test_a_demo_is_followed_through_its_training(tmp_path):
    """Whatever was written last counts: before, it evaluated in its own folder."""
    inner = tmp_path / "train"
    inner.mkdir()
    with recording(tmp_path), progress("before: answer", 4, quiet=True) as bar:
        bar.advance(4)
    assert not read_progress(tmp_path).running
    long_ago = tmp_path.stat().st_mtime - 100
    os.utime(tmp_path / "progress.json", (long_ago, long_ago))
    (inner / "metrics.jsonl").write_text(json.dumps(STEP) + "\n")
    with recording(inner), progress("train", 10, quiet=True, done=3):
        found = read_progress(tmp_path)
    assert found.running and [phase.name for phase in found.phases] == ["train"]
    assert found.sentence == "step 3, epoch 0.5, loss 1.250; 3 of 10 done (30%)"
    with recording(tmp_path):
        note(words={})
        os.utime(tmp_path / "progress.json", (long_ago, long_ago))
        found = read_progress(tmp_path)
    assert found.running and [phase.name for phase in found.phases] == ["train"]


@pytest.mark.parametrize("payload", ["{", "{}", "[]", "[1]", '[{"tokens": 1}]', "null", "3"])
def test_a_result_that_cannot_be_read_counts_as_none(tmp_path, monkeypatch, payload):
    assert not read_progress(tmp_path).formats
    (tmp_path / "results.sqlite").write_bytes(b"no database" * 99)
    assert not read_progress(tmp_path).formats
    (tmp_path / "results.sqlite").unlink()
    store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as db, db:
        db.execute("UPDATE cell SET payload = ?", (payload,))
    with recording(tmp_path):
        note(right={"c1": 1})
        assert not read_progress(tmp_path).formats


def test_a_new_run_is_shown_instead_of_an_older_report(run, monkeypatch):
    (run / "report.json").write_text(json.dumps(make(formats=2)))
    assert "Format compatibility of Toy" in page_of(run)
    with recording(run), progress("train", 10, quiet=True) as bar:
        bar.advance()
        assert "In progress" in page_of(run)
    monkeypatch.setattr("harness.view.server.read_progress", None)  # which reads all results
    assert "Format compatibility of Toy" in page_of(run)


def test_a_large_results_file_is_read_less_often(run, monkeypatch):
    assert "every 4 seconds" in page_of(run)
    now = iter((100.0, 101.5))
    monkeypatch.setattr("harness.view.server.time.monotonic", lambda: next(now))
    assert "every 30 seconds" in page_of(run)


def test_it_starts_before_its_run(tmp_path):
    folder = tmp_path / "later"
    with served(folder) as port:
        assert "No run has begun in" in ask(port)[1]
        assert not folder.exists(), "the viewer writes nothing"
        folder.mkdir()
        assert "Waiting" in ask(port)[1]
        for name in (".lock", "run.json"):  # a training run writes these before it loads the model
            (folder / name).touch()
            serve(folder).server_close()
        (folder / "metrics.jsonl").write_text(json.dumps(STEP) + "\n")
        assert "step 3, epoch 0.5" in ask(port)[1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5369, "89 min"),
        (5400, "1 h 30 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_the_report_takes_the_place_of_progress_and_the_version_tells(run):
    with served(run) as port:
        before = ask(port, "/version")[1]
        assert "In progress" in ask(port)[1]
        (run / "report.json").write_text(json.dumps(make(formats=2)))
        status, page, headers = ask(port)
        assert (status, headers["Cache-Control"], headers["X-Content-Type-Options"]) == (
            200,
            "no-store",
            "nosniff",
        )
        assert (
            "Format compatibility of Toy" in page
            and "connect-src 'self'" in page
            and 'data-live="' in page
        )
        assert ask(port, "/version")[1] != before


def test_a_result_that_sqlite_wrote_beside_its_file_changes_the_version(run):
    (run / "results.sqlite").touch()
    before = version_of(run)
    (run / "results.sqlite-wal").write_text("a result")
    assert version_of(run) != before


def test_the_command_says_where_the_page_is_and_what_it_waits_for(run, monkeypatch, capsys):
    def interrupted(server, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupted)
    assert main(["view", str(run)]) == 0
    assert re.fullmatch(
        r"http://127\.0\.0\.1:\d+/  \(Ctrl-C ends it\)\n\n", capsys.readouterr().out
    )
    later = run / "later"
    assert main(["view", str(later)]) == 0
    assert f"(waiting for a run in {later}; Ctrl-C ends it)" in capsys.readouterr().out


def test_it_reads_and_does_nothing_else(run):
    (run / "secret").write_text("x")
    with served(run) as port:
        assert (
            ask(port, "/secret")[0]
            == ask(port, "/../metrics.jsonl")[0]
            == ask(port, "/metrics.jsonl")[0]
            == 404
        )
        assert ask(port, "/", "POST")[0] == ask(port, "/", "DELETE")[0] == 501
        assert ask(port, "/", "HEAD")[1] == ""


def test_a_name_that_was_made_to_lead_here_is_refused(run):
    with served(run) as port:
        assert ask(port, host=f"evil.example:{port}")[0] == 403
        assert ask(port, host=f"localhost:{port}")[0] == 200


def test_it_listens_on_this_machine_alone(run):
    with served(run):
        pass
    server = serve(run)
    assert server.server_address[0] == "127.0.0.1" and server.server_address[1] > 0
    server.server_close()


def test_a_broken_report_is_reported_and_the_server_continues(run):
    (run / "report.json").write_text("{")
    with served(run) as port:
        status, text, _ = ask(port)
        assert status == 503 and "not JSON" in text
        assert ask(port, "/version")[0] == 200


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(["view", str(tmp_path)]) == 2
    assert "no run to show: the folder has no results" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "config.json")]) == 2
    assert "a file, where a run's folder is expected" in capsys.readouterr().err


def test_a_taken_port_is_refused(run):
    with served(run) as port, pytest.raises(HarnessError, match="cannot listen"):
        serve(run, port)
