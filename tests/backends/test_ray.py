"""The parts of the Ray backend that need no cluster. The rest is in tests/peers/test_ray.py."""

from __future__ import annotations

import sys

import pytest

from harness.backends.ray import resources_each
from harness.cli.main import main
from harness.errors import HarnessError


def test_without_ray_the_pip_line_is_reported(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert (
        main(["eval", str(tiny_model), "--engine", "ray", "--limit", "1", "--out", str(tmp_path)])
        == 2
    )
    assert "pip install 'formatproof[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--workers", "2"], "add --engine ray"),
        (["--address", "auto"], "add --engine ray"),
        (["--engine", "ray", "--endpoint", "http://h/v1"], "exclude each other"),
    ],
)
def test_options_that_do_not_fit_are_reported(args, message, tmp_path, capsys):
    assert main(["eval", "m", *args, "--limit", "1", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("nodes", "workers", "each"),
    [
        ([{"CPU": 2}], 2, {"num_cpus": 1}),
        ([{"CPU": 8}, {"CPU": 8}], 2, {"num_cpus": 8}),
        ([{"CPU": 8}, {"CPU": 8}], 3, {"num_cpus": 4}),
        ([{"CPU": 16}, {"CPU": 4}], 2, {"num_cpus": 8}),
        ([{"CPU": 16, "GPU": 2}, {"CPU": 4}], 2, {"num_gpus": 1, "num_cpus": 1}),
    ],
)
def test_every_worker_finds_a_place(nodes, workers, each):
    assert resources_each(nodes, workers) == each


def test_too_many_workers_are_refused():
    with pytest.raises(HarnessError, match="2 GPUs") as caught:
        resources_each([{"CPU": 64, "GPU": 2}], 3)
    assert caught.value.hint == "--workers 2"
    with pytest.raises(HarnessError, match="2 cores"):
        resources_each([{"CPU": 2}], 3)
