"""The engine that a job asks for: here, on a cluster or behind an address, and which format is its model's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.backends.protocol import Backend
from harness.errors import HarnessError
from harness.evaluation.format_groups import native_format
from harness.formats import FormatSet

if TYPE_CHECKING:
    from harness.evaluation.settings import EvalJob
    from harness.models import LoadedModel


@contextmanager
def engine(
    job: EvalJob, loaded: LoadedModel | None, known: FormatSet
) -> Iterator[tuple[Backend, str | None]]:
    """The engine, ended when the work is over, and the id of the format that equals its model's own, where one does."""
    backend, native = (
        _local(loaded, job, known)
        if loaded
        else _on_cluster(job, known)
        if job.cluster
        else _server(job, known)
    )
    try:
        yield backend, native
    finally:
        close = getattr(backend, "close", None)
        if close is not None:
            close()


def _local(loaded: LoadedModel, job: EvalJob, known: FormatSet) -> tuple[Backend, str | None]:
    """The engine here, and the id of the model's own format where one equals it."""
    from harness.backends.local.backend import TransformersBackend

    return TransformersBackend(loaded), job.native or own_native(loaded, known)


def _on_cluster(job: EvalJob, known: FormatSet) -> tuple[Backend, str | None]:
    """The engine on many workers, and the id of the model's own format where one equals it."""
    from harness.backends.ray import ModelSpec, RayBackend

    if job.cluster is None:
        raise ValueError("no cluster")
    if job.endpoint:
        raise HarnessError(
            "a server spreads its work itself", hint="leave --engine ray or --endpoint out"
        )
    backend = RayBackend(
        ModelSpec(job.model, job.adapter, job.dtype, job.quantisation),
        address=job.cluster.address,
        workers=job.cluster.workers,
    )
    found = native_format(backend.tokenizer, known.values())
    return backend, job.native or (found.id if found else None)


def _server(job: EvalJob, known: FormatSet) -> tuple[Backend, str | None]:
    """The engine behind an address, and the id of the format that its template equals, where it tells that."""
    from harness.backends.openai import OpenAIBackend

    if job.endpoint is None:
        raise ValueError("no address")
    if job.adapter:
        raise HarnessError("a server loads its adapter itself", hint="leave --adapter out")
    end = job.endpoint
    server = OpenAIBackend(
        end.url,
        job.model,
        api_key=end.api_key,
        chat=end.chat,
        concurrency=end.concurrency,
        retries=end.retries,
    )
    return server, job.native or server_native(server.facts.props.get("chat_template"), known)


def server_native(template: object, known: FormatSet) -> str | None:
    """The id of the format that equals the template a server tells of, if one does."""
    if not isinstance(template, str) or not template:
        return None
    from harness.formats.exchange.importing import rank_formats
    from harness.formats.exchange.sources import Source
    from harness.formats.foreign import foreign_renderer

    try:
        found = rank_formats(
            Source(
                "server",
                "chat template",
                render=foreign_renderer(template, where="server"),
                template=template,
            ),
            list(known.values()),
        )
    except HarnessError:
        return None
    return next((format.id for format, same, of in found if same == of), None)


def own_native(loaded: LoadedModel, known: FormatSet) -> str | None:
    """The id of the format that equals the model's own chat template, if one does."""
    found = native_format(loaded.tokenizer, known.values())
    return found.id if found else None
