"""A read-only server on the loopback address: the report of a run, or how far it is."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.report.document import read_report
from harness.report.page import render_html, render_page
from harness.view.progress import REPORT_FILE, Progress, files_of, read_progress, version_of

HOST = "127.0.0.1"
SECONDS = 4
_HERE = Path(__file__).parent


def serve(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server that waits for ``serve_forever``; port 0 takes a free one. Raises HarnessError when there is nothing to show or the port is taken."""
    if not files_of(folder):
        raise HarnessError("no run to show: neither results, nor metrics, nor a report", where=str(folder), hint="give the --out or output_dir of a run")
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, folder))
    except OSError as error:
        raise HarnessError(f"cannot listen on port {port}: {error.strerror}", hint="leave --port out") from None


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
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):  # a name of another site that was made to lead here
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
