"""What a run's folder tells while there is no report yet: results by format and probe, steps and checkpoints.

A read-only server on the loopback address: the report of a run, or how far it is.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.evaluation.settings import RESULTS_FILE
from harness.report.document import read_report
from harness.report.page import render_html, render_page

METRICS_FILE = "metrics.jsonl"
REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """``results``: format → probe → how many there are. ``training``: steps and checkpoints, as a report holds them; None without a training run."""

    results: dict[str, dict[str, int]]
    training: dict[str, Any] | None

    @property
    def probes(self) -> list[str]:
        """The kinds of work that occur."""
        return sorted({probe for row in self.results.values() for probe in row})


def files_of(folder: Path) -> dict[str, Path]:
    """The files that tell how far a run is, by name; a demo keeps its training run in ``train/``."""
    places = {
        RESULTS_FILE: [folder],
        METRICS_FILE: [folder, folder / "train"],
        REPORT_FILE: [folder],
    }
    found = {
        name: next((place / name for place in where if (place / name).is_file()), None)
        for name, where in places.items()
    }
    return {name: path for name, path in found.items() if path is not None}


def version_of(folder: Path) -> str:
    """Changes whenever one of the run's files does."""
    stamps = []
    for name, path in sorted(files_of(folder).items()):
        for file in (
            path,
            path.with_name(path.name + "-wal"),
        ):  # SQLite writes beside its file first
            if file.is_file():
                stat = file.stat()
                stamps.append(f"{name}:{stat.st_size}:{stat.st_mtime_ns}")
    return "|".join(stamps)


def read_progress(folder: Path) -> Progress:
    """Read what is there. A line that is being written is left out; a results file that cannot be read yet counts as empty."""
    files = files_of(folder)
    return Progress(
        results=_results(files[RESULTS_FILE]) if RESULTS_FILE in files else {},
        training=_training(files[METRICS_FILE]) if METRICS_FILE in files else None,
    )


def _results(path: Path) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5) as db:
            rows = db.execute(
                "SELECT format.name, cell.probe, count(*) FROM cell JOIN format ON format.id = cell.format GROUP BY 1, 2"
            ).fetchall()
    except sqlite3.Error:
        return {}
    for format, probe, count in rows:
        counts.setdefault(format, {})[probe] = count
    return dict(sorted(counts.items()))


def _training(path: Path) -> dict[str, Any]:
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    steps = [entry for entry in entries if entry.get("kind") == "step"]
    checkpoints = [
        {key: value for key, value in entry.items() if key != "kind"}
        for entry in entries
        if entry.get("kind") == "checkpoint"
    ]
    return {"schedule": "", "steps": steps, "checkpoints": checkpoints}


HOST = "127.0.0.1"
SECONDS = 4
_HERE = Path(__file__).parent


def serve(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server that waits for ``serve_forever``; port 0 takes a free one. Raises HarnessError when there is nothing to show or the port is taken."""
    if not files_of(folder):
        raise HarnessError(
            "no run to show: neither results, nor metrics, nor a report",
            where=str(folder),
            hint="give the --out or output_dir of a run",
        )
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, folder))
    except OSError as error:
        raise HarnessError(
            f"cannot listen on port {port}: {error.strerror}", hint="leave --port out"
        ) from None


def page_of(folder: Path) -> str:
    """The report where there is one, else how far the run is."""
    files = files_of(folder)
    if REPORT_FILE in files:
        return render_html(read_report(files[REPORT_FILE]), live=version_of(folder))
    progress = read_progress(folder)
    return render_page(
        _HERE / "live.html.jinja",
        progress.training,
        title=f"{folder.resolve().name}, going on",
        name=folder.resolve().name,
        progress=progress,
        sentence=_sentence(progress),
        seconds=SECONDS,
    )


def _sentence(progress: Progress) -> str:
    parts = []
    if progress.training and progress.training["steps"]:
        last = progress.training["steps"][-1]
        parts.append(f"step {last['step']}, epoch {last['epoch']:g}, loss {last['loss']:.3f}")
    if total := sum(sum(row.values()) for row in progress.results.values()):
        parts.append(f"{total} results in {len(progress.results)} formats")
    return "; ".join(parts) or "nothing has been computed yet"


class _Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /version what it was made from. Nothing can be changed, and other sites' pages cannot ask."""

    server_version = "harness"
    sys_version = ""

    def __init__(self, folder: Path, *rest: Any) -> None:
        self.folder = folder
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Answer a reader."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (
            f"{HOST}:{port}",
            f"localhost:{port}",
        ):  # a name of another site that was made to lead here
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        try:
            if self.path == "/version":
                self._send(version_of(self.folder), "text/plain")
            elif self.path == "/":
                self._send(page_of(self.folder), "text/html")
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
        except HarnessError as error:
            self._send(str(error), "text/plain", HTTPStatus.SERVICE_UNAVAILABLE)

    do_HEAD = do_GET  # the name that the standard library calls

    def _send(self, text: str, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the user."""
