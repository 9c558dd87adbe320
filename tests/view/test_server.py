"""The viewer: what it shows at each moment of a run, and whom it answers."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
from contextlib import contextmanager

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.view.server import HOST, page_of, serve
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


def test_an_evaluation_that_goes_on(tmp_path):
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        db.executescript(
            "CREATE TABLE format (id INTEGER PRIMARY KEY, name TEXT);"
            "CREATE TABLE cell (key TEXT, format INTEGER, probe TEXT);"
            "INSERT INTO format VALUES (1, '<b>a'), (2, 'z');"
            "INSERT INTO cell VALUES ('1', 1, 'score'), ('2', 1, 'generate'), ('3', 2, 'score');"
        )
    page = page_of(tmp_path)
    assert "3 results in 2 formats" in page and "&lt;b&gt;a" in page


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


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["view", str(tmp_path)]) == 2
    assert "no run to show" in capsys.readouterr().err


def test_a_taken_port_is_refused(run):
    with served(run) as port, pytest.raises(HarnessError, match="cannot listen"):
        serve(run, port)
