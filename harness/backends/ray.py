"""A Ray cluster: joined or started here, and what each of some workers can reserve on it.

The local engine on many machines: Ray actors that each hold the model, and a driver that hands them batches.

The driver alone writes to the store, as any evaluator does. An actor that dies costs the batch that it had: another
computes it again, and a new actor takes the dead one's place.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness import __version__
from harness.backends.protocol import Answer, GenerateRequest, ScoreRequest
from harness.errors import HarnessError
from harness.extras import require
from harness.models import Dtype, load_tokenizer, locate
from harness.models.quantisation import Quantisation
from harness.records import Loglikelihood
from harness.tokens.encode import bos_text, eos_text

_OBJECT_STORE = 128 * 1024**2
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def resources_each(nodes: Sequence[dict[str, float]], workers: int) -> dict[str, float]:
    """What each worker reserves: a GPU where there are any, else as many cores as let all of them find a place.

    Raises HarnessError when the machines have no room for so many.
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
    """The module ``ray``, told to send no usage statistics. Raises HarnessError where it is not installed."""
    require("ray", "--engine ray")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.exceptions

    return ray


def connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one here: no dashboard, no usage statistics, a small object store."""
    local: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE,
        "num_cpus": os.cpu_count(),
    }
    try:
        if (
            address and "://" not in address and ":" in address
        ):  # Ray itself would try for a quarter of an hour
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **({} if address else local),
        )
    except (OSError, ValueError, RuntimeError) as error:
        hint = "start one with ray start --head, or leave --address out"
        raise HarnessError(
            f"no Ray cluster: {' '.join(str(error).split())[:200]}",
            where=address or "this machine",
            hint=hint,
        ) from None


MOST, LEAST = 256, 8
"""Requests in a batch: large ones first, small ones at the end, so that all workers finish together."""
MOST_LOSSES = 3

Request = GenerateRequest | ScoreRequest
Results = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model that each worker loads. A path must lead to the same files on every machine."""

    model: str
    adapter: str | None = None
    dtype: Dtype = "auto"
    quantisation: Quantisation | None = None


class Worker:
    """What an actor runs. Its model is loaded in ``start``, so that a mistake arrives as itself and not as a dead actor."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.backend: Any = None

    def start(self) -> dict[str, Any]:
        """Load the model. Returns this worker's fingerprint, version and process id."""
        from harness.backends.local.backend import TransformersBackend
        from harness.models import load

        self.backend = TransformersBackend(
            load(
                self.spec.model,
                adapter=self.spec.adapter,
                dtype=self.spec.dtype,
                quantisation=self.spec.quantisation,
            )
        )
        return {"fingerprint": self.backend.fingerprint, "version": __version__, "pid": os.getpid()}

    def score(self, requests: list[ScoreRequest]) -> Results:
        """Score a batch."""
        return [pair for batch in self.backend.score(requests) for pair in batch]

    def generate(self, requests: list[GenerateRequest]) -> Results:
        """Answer a batch."""
        return [pair for batch in self.backend.generate(requests) for pair in batch]


@dataclass
class _Job:
    """What an actor is at: a batch, or its start (no requests)."""

    actor: Any
    method: str = "start"
    requests: tuple[Request, ...] = ()
    losses: int = 0


class RayBackend:
    """Workers on a Ray cluster as one engine. Call ``close`` at the end.

    ``address`` is a cluster's (``auto``: the one on this machine); without one a local cluster is started. Without
    ``workers`` there is one for each GPU, or for each machine where there are none.
    """

    no_loglikelihood = ""

    def __init__(self, spec: ModelSpec, *, address: str | None = None, workers: int = 0) -> None:
        self._ray = ray_library()
        self.name = locate(spec.model).name
        tokenizer = load_tokenizer(locate(spec.model))
        self.tokenizer = tokenizer
        self.bos_token, self.eos_token = bos_text(tokenizer), eos_text(tokenizer)
        self.lost: list[tuple[str, ...]] = []
        self.pids: dict[Any, int] = {}
        self.fingerprint: dict[str, str] = {}
        self._spec = spec
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
                self._hire()
            while not self.fingerprint:
                self._collect(deque())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        for actor in {*self._idle, *(job.actor for job in self._running.values())}:
            self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[list[tuple[str, Answer]]]:
        """Answers, batch by batch as the workers finish them."""
        yield from self._spread("generate", requests)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[list[tuple[str, list[Loglikelihood]]]]:
        """Log-probabilities, batch by batch as the workers finish them."""
        yield from self._spread("score", requests)

    def _spread(self, method: str, requests: Sequence[Request]) -> Iterator[Results]:
        waiting = deque(requests)
        again: deque[_Job] = deque()
        open_ = len(requests)
        try:
            while open_:
                while self._idle and (again or waiting):
                    self._give(self._idle.pop(), method, waiting, again)
                for job, results in self._collect(again):
                    open_ -= len(job.requests)
                    yield results
        finally:
            for job in (
                self._running.values()
            ):  # left over when the caller stops early: nobody waits for them
                job.requests = ()

    def _give(self, actor: Any, method: str, waiting: deque[Request], again: deque[_Job]) -> None:
        """Hand an actor the batch that another lost, or the next one."""
        if again:
            job = again.popleft()
            job.actor = actor
        else:
            size = min(MOST, max(LEAST, -(-len(waiting) // (2 * self.workers))))
            job = _Job(
                actor, method, tuple(waiting.popleft() for _ in range(min(size, len(waiting))))
            )
        self._running[getattr(actor, job.method).remote(list(job.requests))] = job

    def _collect(self, again: deque[_Job]) -> list[tuple[_Job, Results]]:
        """Wait for one job. Gives finished batches; what was lost goes to ``again``."""
        exceptions = self._ray.exceptions
        [done], _ = self._ray.wait(list(self._running), num_returns=1)
        job = self._running.pop(done)
        try:
            told = self._ray.get(done)
        except (exceptions.RayActorError, exceptions.ObjectLostError):
            self._lose(job, again)
            return []
        except exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, HarnessError) else error) from None
        self._idle.append(job.actor)
        if job.method == "start":
            self._welcome(job.actor, told)
        return [(job, told)] if job.requests else []

    def _lose(self, job: _Job, again: deque[_Job]) -> None:
        """An actor died: its batch is computed again, and another actor is hired. One that dies at its start is not."""
        job.losses += 1
        if job.method == "start" or job.losses == MOST_LOSSES:
            what = (
                "a worker dies while it loads the model"
                if job.method == "start"
                else f"a batch ended {MOST_LOSSES} workers"
            )
            raise HarnessError(
                what,
                hint="too little memory? See the worker's log under /tmp/ray/session_latest/logs, and try fewer --workers",
            )
        self._ray.kill(job.actor)  # it may live on where only its answer was lost
        print(
            f"a worker died: its {len(job.requests)} cells are computed again by another",
            file=sys.stderr,
        )
        self.pids.pop(job.actor, None)
        self.lost.append(tuple(request.key for request in job.requests))
        if job.requests:
            again.append(job)
        self._hire()

    def _hire(self) -> None:
        actor = self._remote.remote(self._spec)
        self._running[actor.start.remote()] = _Job(actor)

    def _welcome(self, actor: Any, facts: dict[str, Any]) -> None:
        """Take a worker in if it computes what the others do. Raises HarnessError otherwise: their numbers must not be mixed."""
        if facts["version"] != __version__:
            raise HarnessError(
                f"a worker runs formatproof {facts['version']}, this is {__version__}",
                hint="install the same version on every machine",
            )
        self.fingerprint = self.fingerprint or facts["fingerprint"]
        if facts["fingerprint"] != self.fingerprint:
            other = {
                name: value
                for name, value in facts["fingerprint"].items()
                if self.fingerprint.get(name) != value
            }
            raise HarnessError(
                f"the workers differ: {other}",
                hint="give --dtype, and the same files and libraries on every machine",
            )
        self.pids[actor] = facts["pid"]
