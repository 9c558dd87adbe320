"""A read-only server on the loopback address: a run's report, or its progress while it runs."""

from __future__ import annotations

import time
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.report.document import REPORT_FILE, read_report
from harness.report.page import render_html, render_page
from harness.view.live import files_of, has_begun, is_running, read_progress, time_left

HOST = "127.0.0.1"
#: Seconds after which the progress page loads itself again.
REFRESH = 4
_HERE = Path(__file__).parent


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


def serve(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server that waits for ``serve_forever``; port 0 takes a free one.

    A folder that is missing or empty is one whose run has not begun. Raises HarnessError if
    something else is in it, and if the port is taken.
    """
    if why := _no_run(folder):
        raise HarnessError(
            f"no run to show: {why}",
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


def _no_run(folder: Path) -> str:
    """Why there is no run in this folder, and none about to begin; empty if there may be one.

    A training run locks its folder, with a hidden file, before it loads the model.
    """
    if folder.is_file():
        return "a file, where a run's folder is expected"
    others = folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir())
    if others and not has_begun(folder):
        return "the folder has no results, no metrics and no report"
    return ""


def page_of(folder: Path) -> str:
    """The run's progress while it runs, and then the report, if there is one."""
    files = files_of(folder)
    if REPORT_FILE in files and not is_running(folder):
        return render_html(read_report(files[REPORT_FILE]), live=version_of(folder))
    began = time.monotonic()
    progress = read_progress(folder)
    return render_page(
        _HERE / "live.html.jinja",
        progress.training,
        title=f"{folder.resolve().name}, {'in progress' if progress.begun else 'waiting'}",
        name=folder.resolve().name,
        folder=str(folder),
        progress=progress,
        time_left=time_left,
        # reading a large results file must not slow down the run that writes it
        seconds=max(REFRESH, round(20 * (time.monotonic() - began))),
    )


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
