"""How long waiting threads spin: what is set, and when nothing is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.threads import limit_spinning

NAMES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY", "OMP_WAIT_POLICY")


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not loaded torch and whose user has set nothing. Put back afterwards."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    kept = {name: os.environ.pop(name) for name in NAMES if name in os.environ}
    yield
    for name in NAMES:
        os.environ.pop(name, None)
    os.environ.update(kept)


def spinning():
    return {name: os.environ[name] for name in NAMES if name in os.environ}


def test_set_before_torch(fresh):
    assert limit_spinning()
    most = {"GOMP_SPINCOUNT": 300_000, "KMP_BLOCKTIME": 200}  # the runtimes' own values
    if sys.platform == "darwin":
        del most["KMP_BLOCKTIME"]
    assert set(spinning()) == set(most)
    assert all(0 < int(spinning()[name]) < value for name, value in most.items())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOMP_SPINCOUNT", "7"),
        ("GOMP_SPINCOUNT", "INFINITE"),
        ("OMP_WAIT_POLICY", "ACTIVE"),
        ("KMP_BLOCKTIME", "0"),
        ("KMP_LIBRARY", "turnaround"),
    ],
)
def test_what_the_user_set_stays_and_nothing_is_added(fresh, name, value):
    os.environ[name] = value
    assert not limit_spinning()
    assert spinning() == {name: value}


def test_nothing_is_set_once_torch_is_loaded(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    assert not limit_spinning()
    assert spinning() == {}


def test_a_second_call_changes_nothing(fresh):
    assert limit_spinning()
    first = spinning()
    assert not limit_spinning()
    assert spinning() == first


def test_a_process_started_afterwards_has_it(fresh):
    assert limit_spinning()
    code = "import os; print(os.environ['GOMP_SPINCOUNT'])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == os.environ["GOMP_SPINCOUNT"]


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp comes with torch's Linux wheels")
@pytest.mark.local
def test_torchs_runtime_reads_it(fresh):
    """``import harness`` is enough; libgomp says at its start what it has read."""
    code = "import harness, torch"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert limit_spinning()  # the same here, to compare with
    if "GOMP_SPINCOUNT" not in told:
        pytest.skip("this torch has another runtime")
    assert f"GOMP_SPINCOUNT = '{os.environ['GOMP_SPINCOUNT']}'" in told
