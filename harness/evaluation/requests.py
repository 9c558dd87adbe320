"""What has to be computed: one piece of work per (case, format, probe), addressed by a digest of all that decides its result.

The parts of an address stand in the work too, as the store's tables hold them: engine (model, adapter, tokenizer, dtype,
backend), format with its digest, case with its digest, probe, share and settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from harness.backends.protocol import Backend, GenerateRequest, ScoreRequest
from harness.backends.sampling import Sampling, seed_of
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import case_digest, kind_of
from harness.formats.render import adapt_to_format, render
from harness.records import Case, Conversation, Format, Message, Rendered

Probe = Literal["choice", "answer", "reference", "continue"]


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work. ``share`` is the part of the reference that a ``continue`` probe is given.

    ``engine`` and ``settings`` are JSON texts: the backend's fingerprint, and every setting of the request.
    """

    key: str
    probe: Probe
    case: str
    format: str
    request: ScoreRequest | GenerateRequest
    share: float = 0.0
    engine: str = "{}"
    format_digest: str = ""
    case_digest: str = ""
    settings: str = "{}"

    @property
    def kind(self) -> str:
        """The kind of its case (``kind_of``)."""
        return "reference" if self.probe == "continue" else self.probe

    @property
    def length(self) -> int:
        """Characters of its longest text: a measure of its cost that needs no tokenizer."""
        return max(len(text) for text in _texts(self.request))


@dataclass(frozen=True, slots=True)
class Untestable:
    """A case that a format cannot carry, and why."""

    case: str
    format: str
    why: str


class Planner:
    """Turns cases and formats into work for one backend. Answers are greedy, or drawn as ``sampling`` says, its seed being the run's."""

    def __init__(
        self, backend: Backend, max_new_tokens: int, sampling: Sampling | None = None
    ) -> None:
        self.backend = backend
        self.sampling = sampling
        self.max_new_tokens = max_new_tokens
        self._stamp = json.dumps(backend.fingerprint, sort_keys=True)
        self.untestable: list[Untestable] = []

    def plan(self, cases: Iterable[Case], formats: Sequence[Format], draw: int = 0) -> list[Work]:
        """Work for every case in every format that can carry it; the others go to ``untestable``. ``draw`` numbers sampled answers."""
        work: list[Work] = []
        for case in cases:
            for format in formats:
                if self.backend.no_loglikelihood and not case.checks:
                    self.untestable.append(Untestable(case.id, format.id, self.backend.no_loglikelihood))
                    continue
                try:
                    work.append(self._probe(case, format, draw))
                except HarnessError as error:
                    self.untestable.append(Untestable(case.id, format.id, error.message))
        return work

    def plan_continuations(
        self,
        cases: Iterable[Case],
        formats: Sequence[Format],
        shares: Sequence[float],
        max_new_tokens: int,
    ) -> list[Work]:
        """Greedy completions of references from the prompt plus their first share (METRICS §2.2)."""
        work: list[Work] = []
        for case in cases:
            for format in formats:
                try:
                    prompt = self._render(case, format, None)
                except HarnessError as error:
                    self.untestable.append(Untestable(case.id, format.id, error.message))
                    continue
                for share in shares:
                    prefix = reference_prefix(case.reference or "", share)
                    lead = (
                        " "
                        if prefix
                        and not prompt.text.endswith(("\n", ">"))
                        and self._leads_with_space(case, format)
                        else ""
                    )
                    request = GenerateRequest(
                        "", prompt, max_new_tokens, lead + prefix, format.stop_tokens
                    )
                    work.append(self._keyed("continue", case, format, request, share))
        return work

    def _leads_with_space(self, case: Case, format: Format) -> bool:
        whole = self._render(case, format, case.reference)
        prompt = self._render(case, format, None)
        return whole.text[len(prompt.text) : len(prompt.text) + 1] == " "

    def _probe(self, case: Case, format: Format, draw: int = 0) -> Work:
        kind = kind_of(case)
        request: ScoreRequest | GenerateRequest
        if kind == "choice":
            request = ScoreRequest(
                "", tuple(self._render(case, format, choice) for choice in case.choices)
            )
            return self._keyed("choice", case, format, request)
        if kind == "reference":
            request = ScoreRequest(
                "", (self._render(case, format, case.reference),), case.expect_language
            )
            return self._keyed("reference", case, format, request)
        request = GenerateRequest(
            "",
            self._render(case, format, None),
            self.max_new_tokens,
            "",
            format.stop_tokens,
            case.expect_language,
            case.messages,
        )
        if self.sampling is not None:
            request = replace(
                request,
                sampling=replace(
                    self.sampling, seed=seed_of(self.sampling.seed, case.id, format.id, draw)
                ),
            )
        return self._keyed("answer", case, format, request)

    def _render(self, case: Case, format: Format, answer: str | None) -> Rendered:
        """The prompt, or the text to the end of an answer's words: with the stop behind it a last ``.`` would be the token ``.<``, and the stop be scored."""
        messages = case.messages
        if answer is not None:
            messages = (*messages, Message("assistant", answer, case.name))
        return render(
            adapt_to_format(Conversation(case.id, messages, case.tags, case.source), format),
            format,
            add_generation_prompt=answer is None,
            continue_final_message=answer is not None,
            bos_token=self.backend.bos_token,
            eos_token=self.backend.eos_token,
            assistant_name=case.name,
        )

    def _keyed(
        self,
        probe: Probe,
        case: Case,
        format: Format,
        request: ScoreRequest | GenerateRequest,
        share: float = 0.0,
    ) -> Work:
        digest, settings = case_digest(case), _settings(request)
        spans = (
            [list(rendered.spans) for rendered in request.answers]
            if isinstance(request, ScoreRequest)
            else []
        )
        facts = json.dumps(
            [
                self._stamp,
                probe,
                case.id,
                digest,
                format.id,
                format.digest,
                share,
                settings,
                _texts(request),
                spans,
            ]
        )
        key = hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return Work(
            key,
            probe,
            case.id,
            format.id,
            replace(request, key=key),
            share,
            self._stamp,
            format.digest,
            digest,
            settings,
        )


def _texts(request: ScoreRequest | GenerateRequest) -> list[str]:
    """What the model reads."""
    return (
        [rendered.text for rendered in request.answers]
        if isinstance(request, ScoreRequest)
        else [request.prompt.text, request.prefix]
    )


def _settings(request: ScoreRequest | GenerateRequest) -> str:
    """Every field of a request but its texts, as JSON: a setting that is added later is part of the address by itself."""
    found = {
        field.name: getattr(request, field.name)
        for field in fields(request)
        if field.name not in ("key", "prompt", "prefix", "answers", "messages")
    }
    if isinstance(request, GenerateRequest):
        found["stops"] = request.prompt.stops
        found["sampling"] = asdict(request.sampling) if request.sampling else None
    return json.dumps(found, sort_keys=True)


def reference_prefix(reference: str, share: float) -> str:
    """The first ``share`` of a reference, cut at a word's end."""
    if share <= 0:
        return ""
    words = reference.split(" ")
    return " ".join(words[: max(1, round(len(words) * share))])
