"""Opens the backend that a job asks for, and finds the format that is its model's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.backends.by_name import open_backend
from harness.backends.local.backend import TransformersBackend
from harness.backends.protocol import Backend
from harness.errors import HarnessError
from harness.evaluation.format_groups import kept_native, native_format
from harness.formats import FormatSet

if TYPE_CHECKING:
    from harness.evaluation.settings import EvalJob
    from harness.models import LoadedModel


@contextmanager
def opened_engine(
    job: EvalJob, loaded: LoadedModel | None, known: FormatSet
) -> Iterator[tuple[Backend, str | None]]:
    """The backend, closed at the end, and the id of its native format, or None if unknown.

    A ``loaded`` model runs in this process, whatever engine the job names. Where its tokenizer
    leaves no format native, standard error says what is not measured and what helps.
    """
    if loaded is not None:
        backend: Backend = TransformersBackend.of(loaded, job.spec)
    else:
        backend = open_backend(job.engine, job.spec, job.engine_options)
    try:
        yield backend, native_of(job, backend, known)
    finally:
        backend.close()


def native_of(job: EvalJob, backend: Backend, known: FormatSet) -> str | None:
    """The id of the model's own format; a line on standard error where it has a tokenizer alone."""
    native = job.native or _native(backend, known)
    if native is None and (tokenizer := backend.tokenizer) is not None:
        print(_without_native(job.model, bool(tokenizer.chat_template)), file=sys.stderr)
    return native


def _without_native(model: str, has_template: bool) -> str:
    """What a model that has no native format is not measured in, and what to do."""
    if has_template:
        return (
            f"{model}: its chat template equals no known format and cannot be kept as it is, so "
            "nll_excess is not measured — --native FORMAT names its format"
        )
    return (
        f"{model}: it has no chat template (a base model), so no format is native and nll_excess "
        "is not measured — --native FORMAT measures it against the format that you train in"
    )


def _native(backend: Backend, known: FormatSet) -> str | None:
    """The id of the model's own format. A template that equals no known one joins them."""
    template = backend.chat_template
    if backend.tokenizer is not None:
        found = native_format(backend.tokenizer, known.values())
    elif not template:
        return None
    elif (equal := _format_of_template(template, known)) or backend.applies_template:
        return equal
    else:
        found = kept_native(template)
    if found is None:
        return None
    known.add(found)
    return found.id


def _format_of_template(template: str, known: FormatSet) -> str | None:
    """The id of the format that renders what the template of a server renders, or None."""
    from harness.formats.exchange.detecting import rank_formats
    from harness.formats.exchange.sources import Source
    from harness.formats.kept.kept_probes import template_renderer

    try:
        renderer = template_renderer(template, "server")
        source = Source("server", "chat template", render=renderer, template=template)
        matches = rank_formats(source, list(known.values()))
    except HarnessError:
        return None
    return next((fmt.id for fmt, equal, total in matches if equal == total), None)
