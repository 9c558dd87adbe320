"""The viewer in Chromium: the page follows the run without being touched."""

from __future__ import annotations

import json
import threading

import pytest

from harness.view.server import HOST, serve
from tests.patience import HANG_S
from tests.report.fixture import make
from tests.view.test_server import STEP

pytestmark = pytest.mark.browser


def test_the_page_follows_the_run(chromium, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(STEP) + "\n")
    server = serve(tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = chromium.new_page()
    messages: list[str] = []

    def publish(report):
        """In one step: the page may ask at any moment, and half a report is an error."""
        (tmp_path / "partial").write_text(json.dumps(report))
        (tmp_path / "partial").rename(tmp_path / "report.json")

    page.on("console", lambda message: messages.append(message.text))
    try:
        page.goto(f"http://{HOST}:{server.server_address[1]}/")
        assert page.get_by_text("step 3").is_visible()
        publish(make(formats=3))
        page.get_by_role("heading", name="Toy").wait_for(timeout=1000 * HANG_S)
        page.get_by_label("Format", exact=True).fill("format-01")
        table = make(formats=3)
        publish({**table, "model": {**table["model"], "name": "Another"}})
        page.get_by_role("heading", name="Another").wait_for(timeout=1000 * HANG_S)
        assert (
            page.get_by_label("Format", exact=True).input_value() == "format-01"
        )  # the view is kept
    finally:
        page.close()
        server.shutdown()
        server.server_close()
    assert [line for line in messages if "favicon" not in line and "404" not in line] == []
