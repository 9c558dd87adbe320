"""Which models are tried, and the record of what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from harness.errors import HarnessError
from tests.zoo.attempt import Attempt
from tests.zoo.models import names
from tests.zoo.record import (
    LEFT_OUT,
    REFUSED,
    RIGHT,
    WRONG,
    Outcome,
    read_record,
    versions,
    write_record,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zoo")
    group.addoption("--zoo-record", action="store_true", help="write what came of each step")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One worker tries all steps of a model."""
    if "attempt" not in metafunc.fixturenames:
        return
    marked = [pytest.param(name, marks=pytest.mark.xdist_group(name), id=name) for name in names()]
    metafunc.parametrize("attempt", marked, indirect=True, scope="module")


@pytest.fixture(scope="module")
def attempt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    try:
        return Attempt(request.param, tmp_path_factory.mktemp("zoo"))
    except ImportError as error:
        pytest.skip(f"cannot be built: {str(error).strip().splitlines()[0]}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """A step that is refused in one line has passed, unless the record knows it as right."""
    try:
        return (yield)
    except HarnessError as error:
        tried = pyfuncitem.funcargs.get("attempt")
        if not isinstance(tried, Attempt):
            raise
        said = str(error).replace(str(tried.folder), "MODEL").replace(str(tried.work), "…")
        assert "\n" not in said
        made_with, known = read_record()
        step = _step(pyfuncitem.name)
        before = known.get(tried.name, Outcome()).steps.get(step)
        judged = made_with == versions() and not pyfuncitem.config.getoption("--zoo-record", False)
        assert not (judged and before == RIGHT), f"was right, and is refused now: {said}"
        pyfuncitem.user_properties.append((REFUSED, said))
        return True


def _step(test: str) -> str:
    return test.removeprefix("test_").partition("[")[0]


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    if config.getoption("--zoo-record", False) and not is_worker:
        config.pluginmanager.register(Recorder())


class Recorder:
    """Collects what came of each step from all workers, and writes it as it comes."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = re.fullmatch(r".*tests/zoo/test_zoo\.py::test_(\w+)\[(.+)\](@.*)?", report.nodeid)
        if not found or (report.when != "call" and report.passed):
            return
        step, name = found[1], found[2]
        outcome = self.outcomes.setdefault(name, Outcome())
        notes = dict(report.user_properties)
        outcome.engine = notes.get("engine", outcome.engine)
        outcome.rows = notes.get("training_rows", outcome.rows)
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash else str(report.longrepr)
            outcome.steps[step] = f"{WRONG}: {why.splitlines()[0][:200]}"
        elif report.skipped:
            outcome.steps[step] = LEFT_OUT
        else:
            said = notes.get(REFUSED)
            outcome.steps[step] = f"{REFUSED}: {said}" if said else RIGHT
        write_record(self.outcomes)
