"""Requests to the model: one for each case, format and type, with the address of its result.

An address is a digest of everything that decides the result. Its parts are kept in the request
too, as the results file stores them: engine (model, adapter, tokenizer, dtype, backend), format
with its digest, case with its digest, request type, prefix fraction and settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from harness.backends.protocol import Backend, GenerateRequest, ScoreRequest
from harness.backends.sampling import Sampling, seed_of
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import case_digest
from harness.formats.adapt import adapt_to_format
from harness.formats.format_set import with_thinking
from harness.formats.parse import opened_by
from harness.formats.render import render
from harness.records import Case, Format, Rendered

RequestType = Literal["choice", "answer", "reference", "continue", "call"]


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request, with the address (``key``) of its result in the results file.

    ``prefix_fraction`` is the part of the reference that a ``continue`` request gives away.
    ``engine`` and ``settings`` are JSON: the backend's fingerprint, and every setting of the
    request. ``opened`` is what the prompt has written of the answer's thought already.
    """

    key: str
    request_type: RequestType
    case: str
    format: str
    request: ScoreRequest | GenerateRequest
    prefix_fraction: float = 0.0
    engine: str = "{}"
    format_digest: str = ""
    case_digest: str = ""
    settings: str = "{}"
    opened: str = ""

    @property
    def kind(self) -> str:
        """The kind of its case (``kind_of``)."""
        return "reference" if self.request_type == "continue" else self.request_type

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


class RequestBuilder:
    """Turns cases and formats into requests to one backend.

    Answers are greedy, or sampled as ``sampling`` says, whose seed is that of the run. In a format
    that asks for a thought they may be ``thought_tokens`` longer.
    """

    def __init__(
        self,
        backend: Backend,
        max_new_tokens: int,
        sampling: Sampling | None = None,
        thought_tokens: int = 0,
    ) -> None:
        self.backend = backend
        self.sampling = sampling
        self.max_new_tokens = max_new_tokens
        self.thought_tokens = thought_tokens
        self._engine = json.dumps(backend.fingerprint, sort_keys=True)
        self.untestable: list[Untestable] = []

    def build(
        self, cases: Iterable[Case], formats: Sequence[Format], sample: int = 0
    ) -> list[PlannedRequest]:
        """A request for every case in every format that can carry it.

        The other pairs are added to ``untestable``. ``sample`` numbers sampled answers.
        """
        planned: list[PlannedRequest] = []
        for case in cases:
            for chat_format in formats:
                try:
                    planned.append(self._request(case, chat_format, sample))
                except HarnessError as error:
                    self.untestable.append(Untestable(case.id, chat_format.id, error.message))
        return planned

    def build_continuations(
        self,
        cases: Iterable[Case],
        formats: Sequence[Format],
        fractions: Sequence[float],
        max_new_tokens: int,
    ) -> list[PlannedRequest]:
        """Greedy continuations of references from the prompt and their first ``fractions``."""
        planned: list[PlannedRequest] = []
        for case in cases:
            for chat_format in formats:
                try:
                    prompt = self._render(case, chat_format, None)
                    before = self._before_the_answer(case, chat_format, prompt)
                except HarnessError as error:
                    self.untestable.append(Untestable(case.id, chat_format.id, error.message))
                    continue
                for fraction in fractions:
                    prefix = reference_prefix(case.reference or "", fraction)
                    lead = before if prefix or chat_format.reasoning != "none" else ""
                    request = GenerateRequest(
                        "", prompt, max_new_tokens, lead + prefix, chat_format.stop_tokens
                    )
                    planned.append(
                        self._addressed("continue", case, chat_format, request, fraction)
                    )
        return planned

    def _before_the_answer(self, case: Case, chat_format: Format, prompt: Rendered) -> str:
        """What the format writes between its generation prompt and the words of an answer.

        That is a space, or a thought that is empty. Raises HarnessError where the format takes a
        part of the reference for a thought: the answer does not begin with its words then.
        """
        rendered = self._render(case, chat_format, case.reference)
        whole, begin = rendered.text, len(prompt.text)
        if chat_format.reasoning != "none" and whole.startswith(prompt.text):
            answer = [span for span in rendered.spans if span.start >= begin]
            if any(span.kind == "reasoning" for span in answer):
                raise HarnessError(f"format {chat_format.id} reads a thought in the reference")
            words = next(span for span in answer if span.kind == "content")
            return whole[begin : words.end - len(whole[words.start : words.end].lstrip())]
        follows_space = whole[begin : begin + 1] == " "
        return " " if follows_space and not prompt.text.endswith(("\n", ">")) else ""

    def _request(self, case: Case, chat_format: Format, sample: int) -> PlannedRequest:
        if case.checks:
            request = self._answer_request(case, chat_format, sample)
            kind: RequestType = "call" if case.tools else "answer"
            planned = self._addressed(kind, case, chat_format, request)
            if self.backend.applies_template:  # and reads thoughts by itself
                return planned
            return replace(planned, opened=opened_by(request.prompt, chat_format))
        if self.backend.no_loglikelihood:
            raise HarnessError(self.backend.no_loglikelihood)
        if case.choices:
            texts = tuple(self._render(case, chat_format, choice) for choice in case.choices)
            return self._addressed("choice", case, chat_format, ScoreRequest("", texts))
        texts = (self._render(case, chat_format, case.reference),)
        scored = ScoreRequest("", texts, case.expect_language)
        return self._addressed("reference", case, chat_format, scored)

    def _answer_request(self, case: Case, chat_format: Format, sample: int) -> GenerateRequest:
        asked = format_asked(case, chat_format)
        request = GenerateRequest(
            "",
            self._render(case, asked, None),
            self.max_new_tokens + (self.thought_tokens if asked.thinks else 0),
            "",
            asked.stop_tokens,
            case.expect_language,
            case.messages,
            case.tools,
            variables=asked.variables,
        )
        if self.sampling is None:
            return request
        seed = seed_of(self.sampling.seed, case.id, chat_format.id, sample)
        return replace(request, sampling=replace(self.sampling, seed=seed))

    def _render(self, case: Case, chat_format: Format, answer: str | None) -> Rendered:
        """The prompt, or with ``answer`` the text to the end of the answer's words.

        The stop is left off: with it a last ``.`` could become the token ``.<``, and the stop
        would be scored too.
        """
        messages, tools = case.messages, case.tools
        if answer is not None:
            messages = (*messages, Message("assistant", answer, case.name))
        if self.backend.applies_template:  # this text is only shown, and no format of ours need fit
            messages = tuple(m for m in messages if m.role != "tool" and not m.tool_calls)
            tools = ()
        conversation = Conversation(case.id, messages, case.tags, case.source, tools=tools)
        return render(
            adapt_to_format(conversation, chat_format),
            chat_format,
            add_generation_prompt=answer is None,
            continue_final_message=answer is not None,
            bos_token=self.backend.bos_token,
            eos_token=self.backend.eos_token,
            assistant_name=case.name,
        )

    def _addressed(
        self,
        request_type: RequestType,
        case: Case,
        chat_format: Format,
        request: ScoreRequest | GenerateRequest,
        prefix_fraction: float = 0.0,
    ) -> PlannedRequest:
        digest, settings = case_digest(case), _settings(request)
        scored = request.answers if isinstance(request, ScoreRequest) else ()
        spans = [list(rendered.spans) for rendered in scored]
        where = (request_type, case.id, digest, chat_format.id, chat_format.digest, prefix_fraction)
        facts = [self._engine, *where, settings, _texts(request), spans]
        text = json.dumps(facts).encode("utf-8", "surrogatepass")
        key = hashlib.sha256(text).hexdigest()[:32]
        return PlannedRequest(
            key,
            request_type,
            case.id,
            chat_format.id,
            replace(request, key=key),
            prefix_fraction,
            self._engine,
            chat_format.digest,
            digest,
            settings,
        )


def format_asked(case: Case, chat_format: Format) -> Format:
    """The format with thinking switched as the case says.

    Raises HarnessError where it cannot be.
    """
    return chat_format if case.thinking is None else with_thinking(chat_format, case.thinking)


def _texts(request: ScoreRequest | GenerateRequest) -> list[str]:
    """What the model reads."""
    if isinstance(request, ScoreRequest):
        return [rendered.text for rendered in request.answers]
    return [request.prompt.text, request.prefix]


#: Fields that are texts, or whose text is in the prompt.
_TEXTS = ("key", "prompt", "prefix", "answers", "messages", "tools", "variables")


def _settings(request: ScoreRequest | GenerateRequest) -> str:
    """Every field of a request except its texts, as JSON.

    A field that is added later becomes part of the address by itself.
    """
    settings = {
        field.name: getattr(request, field.name)
        for field in fields(request)
        if field.name not in _TEXTS
    }
    if isinstance(request, GenerateRequest):
        settings["stops"] = request.prompt.stops
        settings["sampling"] = asdict(request.sampling) if request.sampling else None
    return json.dumps(settings, sort_keys=True)


def reference_prefix(reference: str, fraction: float) -> str:
    """The first ``fraction`` of a reference's words."""
    if fraction <= 0:
        return ""
    words = reference.split(" ")
    return " ".join(words[: max(1, round(len(words) * fraction))])
