"""A read-only server on the loopback address: a run's report, or its progress while it runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.evaluation.settings import RESULTS_FILE
from harness.report.document import REPORT_FILE, Training, read_report
from harness.report.page import render_html, render_page
from harness.run_file import METRICS_FILE, read_metrics

HOST = "127.0.0.1"
#: Seconds after which the progress page loads itself again.
REFRESH = 4
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Progress:
    """``results``: format → kind of request → count. ``training``: None without a training run."""

    results: dict[str, dict[str, int]]
    training: Training | None

    @property
    def kinds(self) -> list[str]:
        """The kinds of request that occur."""
        return sorted({kind for row in self.results.values() for kind in row})


def files_of(folder: Path) -> dict[str, Path]:
    """The files that show a run's progress, by name; a demo trains in its folder ``train/``."""
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
    """A text that changes whenever one of the run's files does."""
    stamps = []
    for name, path in sorted(files_of(folder).items()):
        # SQLite writes to the file beside its own first.
        for file in (path, path.with_name(path.name + "-wal")):
            if file.is_file():
                stat = file.stat()
                stamps.append(f"{name}:{stat.st_size}:{stat.st_mtime_ns}")
    return "|".join(stamps)


def read_progress(folder: Path) -> Progress:
    """Read what is there; a results file that cannot be read yet counts as empty."""
    files = files_of(folder)
    return Progress(
        results=_results(files[RESULTS_FILE]) if RESULTS_FILE in files else {},
        training=_training(files[METRICS_FILE]) if METRICS_FILE in files else None,
    )


def _results(path: Path) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    query = (
        "SELECT format.name, cell.probe, count(*) FROM cell "
        "JOIN format ON format.id = cell.format GROUP BY 1, 2"
    )
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
        ) as db:
            rows = db.execute(query).fetchall()
    except sqlite3.Error:
        return {}
    for name, kind, count in rows:
        counts.setdefault(name, {})[kind] = count
    return dict(sorted(counts.items()))


def _training(path: Path) -> Training:
    entries = read_metrics(path.parent)
    return Training(
        schedule="",
        steps=tuple(entry for entry in entries if entry["kind"] == "step"),
        checkpoints=tuple(entry for entry in entries if entry["kind"] == "checkpoint"),
    )


def serve(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server that waits for ``serve_forever``; port 0 takes a free one.

    Raises HarnessError when there is nothing to show and when the port is taken.
    """
    if not files_of(folder):
        raise HarnessError(
            "no run to show: the folder has no results, no metrics and no report",
            where=str(folder),
            hint="give the --out of an evaluation or the output_dir of a training run",
        )
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, folder))
    except OSError as error:
        raise HarnessError(
            f"cannot listen on port {port}: {error.strerror}",
            hint="give another --port, or leave it out",
        ) from None


def page_of(folder: Path) -> str:
    """The report where there is one, else the run's progress."""
    files = files_of(folder)
    if REPORT_FILE in files:
        return render_html(read_report(files[REPORT_FILE]), live=version_of(folder))
    progress = read_progress(folder)
    return render_page(
        _HERE / "live.html.jinja",
        progress.training,
        title=f"{folder.resolve().name}, in progress",
        name=folder.resolve().name,
        progress=progress,
        sentence=_sentence(progress),
        seconds=REFRESH,
    )


def _sentence(progress: Progress) -> str:
    parts = []
    if progress.training and progress.training.steps:
        last = progress.training.steps[-1]
        parts.append(f"step {last['step']}, epoch {last['epoch']:g}, loss {last['loss']:.3f}")
    if total := sum(sum(row.values()) for row in progress.results.values()):
        parts.append(f"{total} results in {len(progress.results)} formats")
    return "; ".join(parts) or "nothing has been computed yet"


class _Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /version the state of its files; other sites' pages cannot ask."""

    server_version = "harness"
    sys_version = ""

    def __init__(self, folder: Path, *rest: Any) -> None:
        self.folder = folder
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Answer a reader."""
        port = self.connection.getsockname()[1]
        # Another site's name may be made to resolve to this address.
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
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

    def log_message(self, *_: Any, **__: Any) -> None:
        """Log nothing: the terminal belongs to the user."""
