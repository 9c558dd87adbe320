"""A Ray cluster: joined or started here, and what each of some workers can reserve on it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from harness.errors import HarnessError

_OBJECT_STORE = 128 * 1024**2
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def resources_each(nodes: Sequence[dict[str, float]], workers: int) -> dict[str, float]:
    """What each worker reserves: a GPU where there are any, else as many cores as let all of them find a place.

    Raises HarnessError when the machines have no room for so many.
    """
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    if any(gpus):
        if sum(gpus) < workers:
            raise HarnessError(f"{workers} workers, and the cluster has {sum(gpus)} GPUs", hint=f"--workers {sum(gpus)}")
        return {"num_gpus": 1, "num_cpus": 1}
    cores = [int(node.get("CPU", 0)) for node in nodes]
    for each in range(max(cores, default=0), 0, -1):
        if sum(count // each for count in cores) >= workers:
            return {"num_cpus": each}
    raise HarnessError(f"{workers} workers, and the cluster has {sum(cores)} cores", hint=f"--workers {max(1, sum(cores))}")


def ray_library() -> Any:
    """The module ``ray``, told to send no usage statistics. Raises HarnessError where it is not installed."""
    try:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        import ray
        import ray.exceptions
    except ImportError:
        raise HarnessError("Ray is not installed", hint="pip install 'formatproof[ray]'") from None
    return ray


def connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one here: no dashboard, no usage statistics, a small object store."""
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE, "num_cpus": os.cpu_count()}
    try:
        if address and "://" not in address and ":" in address:  # Ray itself would try for a quarter of an hour
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else local))
    except (OSError, ValueError, RuntimeError) as error:
        hint = "start one with ray start --head, or leave --address out"
        raise HarnessError(f"no Ray cluster: {' '.join(str(error).split())[:200]}", where=address or "this machine", hint=hint) from None
