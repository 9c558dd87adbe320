"""The local backend on many machines: Ray actors hold the model, a driver hands them batches.

The driver alone writes to the store, as any evaluator does. An actor that dies costs the batch that
it had: another one computes it again, and a new actor takes its place.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.backends.protocol import (
    Answers,
    AnyRequest,
    Backend,
    GenerateRequest,
    ModelSpec,
    ScoreRequest,
    Scorings,
)
from harness.errors import HarnessError
from harness.extras import require
from harness.models import load_tokenizer, locate
from harness.tokens.encode import bos_text, eos_text
from harness.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LARGEST_BATCH, SMALLEST_BATCH = 256, 8
"""Requests: large batches first, small ones at the end, so that all workers finish together."""
MAX_LOSSES = 3
"""A batch that ended this many workers ends the run."""
_OBJECT_STORE = 128 * 1024**2
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

Results = list[tuple[str, Any]]


def open_backend(model: ModelSpec, *, address: str | None = None, workers: int = 0) -> RayBackend:
    """The model on the workers of a Ray cluster."""
    return RayBackend(model, address=address, workers=workers)


class RayBackend(Backend):
    """Workers on a Ray cluster as one backend. Call ``close`` at the end.

    ``address`` is a cluster's (``auto``: the one that this machine belongs to); without one a local
    cluster is started. Without ``workers`` there is one for each GPU, or for each machine where
    there are none. A path in ``model`` must lead to the same files on every machine.
    """

    def __init__(self, model: ModelSpec, *, address: str | None = None, workers: int = 0) -> None:
        self._ray = ray_library()
        self._source = locate(model.model)
        self._tokenizer = load_tokenizer(self._source)
        self.lost: list[tuple[str, ...]] = []
        self.pids: dict[Any, int] = {}
        self._fingerprint: dict[str, str] = {}
        self._model = model
        self._running: dict[Any, _Job] = {}
        self._idle: list[Any] = []
        self._ours = not self._ray.is_initialized()
        if self._ours:
            connect(self._ray, address)
        try:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self.workers = workers or sum(int(node.get("GPU", 0)) for node in nodes) or len(nodes)
            self._remote = self._ray.remote(**resources_each(nodes, self.workers))(Worker)
            for _ in range(self.workers):
                self._start_worker()
            while not self._fingerprint:
                self._collect(deque())
        except BaseException:
            self.close()
            raise

    @property
    def fingerprint(self) -> dict[str, str]:
        return self._fingerprint

    @property
    def bos_token(self) -> str:
        return bos_text(self._tokenizer)

    @property
    def eos_token(self) -> str:
        return eos_text(self._tokenizer)

    @property
    def model_name(self) -> str:
        return self._source.name

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._tokenizer

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        for actor in {*self._idle, *(job.actor for job in self._running.values())}:
            self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[Answers]:
        """Answers, batch by batch as the workers finish them."""
        yield from self._distribute("generate", requests)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scorings]:
        """Log-probabilities, batch by batch as the workers finish them."""
        yield from self._distribute("score", requests)

    def _distribute(self, method: str, requests: Sequence[AnyRequest]) -> Iterator[Results]:
        waiting = deque(requests)
        lost: deque[_Job] = deque()
        missing = len(requests)
        try:
            while missing:
                while self._idle and (lost or waiting):
                    self._send_batch(self._idle.pop(), method, waiting, lost)
                for job, results in self._collect(lost):
                    missing -= len(job.requests)
                    yield results
        finally:
            for job in self._running.values():  # the caller stopped early: nobody waits for them
                job.requests = ()

    def _send_batch(
        self, actor: Any, method: str, waiting: deque[AnyRequest], lost: deque[_Job]
    ) -> None:
        """Send an actor the batch that another lost, or the next one."""
        if lost:
            job = lost.popleft()
            job.actor = actor
        else:
            share = -(-len(waiting) // (2 * self.workers))
            size = min(LARGEST_BATCH, max(SMALLEST_BATCH, share), len(waiting))
            job = _Job(actor, method, tuple(waiting.popleft() for _ in range(size)))
        self._running[getattr(actor, job.method).remote(list(job.requests))] = job

    def _collect(self, lost: deque[_Job]) -> list[tuple[_Job, Results]]:
        """Wait for one job and return it if it was a batch; a lost batch goes to ``lost``."""
        exceptions = self._ray.exceptions
        [done], _ = self._ray.wait(list(self._running), num_returns=1)
        job = self._running.pop(done)
        try:
            result = self._ray.get(done)
        except (exceptions.RayActorError, exceptions.ObjectLostError):
            self._replace_worker(job, lost)
            return []
        except exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, HarnessError) else error) from None
        self._idle.append(job.actor)
        if job.method == "start":
            self._check_worker(job.actor, result)
        return [(job, result)] if job.requests else []

    def _replace_worker(self, job: _Job, lost: deque[_Job]) -> None:
        """Start another actor for one that died. A death at the start ends the run."""
        job.losses += 1
        if job.method == "start" or job.losses == MAX_LOSSES:
            problem = (
                "a worker dies while it loads the model"
                if job.method == "start"
                else f"a batch ended {MAX_LOSSES} workers"
            )
            logs = "/tmp/ray/session_latest/logs"  # noqa: S108  # Ray's own place
            raise HarnessError(
                problem,
                hint=f"too little memory? See the worker's log under {logs}, try fewer --workers",
            )
        self._ray.kill(job.actor)  # it may live on where only its answer was lost
        print(
            f"a worker died: its {len(job.requests)} requests are computed again by another",
            file=sys.stderr,
        )
        self.pids.pop(job.actor, None)
        self.lost.append(tuple(request.key for request in job.requests))
        if job.requests:
            lost.append(job)
        self._start_worker()

    def _start_worker(self) -> None:
        actor = self._remote.remote(self._model)
        self._running[actor.start.remote()] = _Job(actor)

    def _check_worker(self, actor: Any, facts: dict[str, Any]) -> None:
        """Raise HarnessError for a worker that computes other numbers than the first one."""
        if facts["version"] != __version__:
            raise HarnessError(
                f"a worker runs formatproof {facts['version']}, this is {__version__}",
                hint="install the same version on every machine",
            )
        self._fingerprint = self._fingerprint or facts["fingerprint"]
        if facts["fingerprint"] != self._fingerprint:
            other = {
                name: value
                for name, value in facts["fingerprint"].items()
                if self._fingerprint.get(name) != value
            }
            raise HarnessError(
                f"the workers differ: {other}",
                hint="give --dtype, and the same files and libraries on every machine",
            )
        self.pids[actor] = facts["pid"]


@dataclass
class _Job:
    """What an actor is doing: a batch, or its start (no requests)."""

    actor: Any
    method: str = "start"
    requests: tuple[AnyRequest, ...] = ()
    losses: int = 0


class Worker:
    """What an actor runs.

    The model is loaded in ``start``, so that a mistake arrives as itself and not as a dead actor.
    """

    def __init__(self, model: ModelSpec) -> None:
        self.model = model
        self.backend: Any = None

    def start(self) -> dict[str, Any]:
        """Load the model. Returns this worker's fingerprint, version and process id."""
        from harness.backends.local.backend import open_backend

        self.backend = open_backend(self.model)
        return {"fingerprint": self.backend.fingerprint, "version": __version__, "pid": os.getpid()}

    def score(self, requests: list[ScoreRequest]) -> Results:
        """Score a batch."""
        return [pair for batch in self.backend.score(requests) for pair in batch]

    def generate(self, requests: list[GenerateRequest]) -> Results:
        """Answer a batch."""
        return [pair for batch in self.backend.generate(requests) for pair in batch]


def resources_each(nodes: Sequence[dict[str, float]], workers: int) -> dict[str, float]:
    """What each worker reserves: one GPU where there are any, else as many cores as fit for all.

    ``nodes`` are the resources of the machines. Raises HarnessError when they have no room for so
    many workers.
    """
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    if any(gpus):
        if sum(gpus) < workers:
            raise HarnessError(
                f"{workers} workers, and the cluster has {sum(gpus)} GPUs",
                hint=f"--workers {sum(gpus)}",
            )
        return {"num_gpus": 1, "num_cpus": 1}
    cores = [int(node.get("CPU", 0)) for node in nodes]
    for each in range(max(cores, default=0), 0, -1):
        if sum(count // each for count in cores) >= workers:
            return {"num_cpus": each}
    raise HarnessError(
        f"{workers} workers, and the cluster has {sum(cores)} cores",
        hint=f"--workers {max(1, sum(cores))}",
    )


def ray_library() -> Any:
    """Import ``ray`` with usage statistics off. Raises HarnessError where it is not installed."""
    require("ray", "--engine ray")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.exceptions

    return ray


def connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one here without dashboard and with a small object store."""
    local: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE,
        "num_cpus": os.cpu_count(),
    }
    try:
        if address and "://" not in address and ":" in address:
            # Ray itself would try for a quarter of an hour
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **({} if address else local),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise HarnessError(
            f"no Ray cluster: {' '.join(str(error).split())[:200]}",
            where=address or "this machine",
            hint="start one with ray start --head, or leave --address out",
        ) from None
