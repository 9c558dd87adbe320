"""Requests to a server: sent again where that helps, and its errors turned into ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from harness.backends.server_answers import (
    MalformedError,
    one_line,
    read_choice,
    without_credentials,
)
from harness.errors import HarnessError

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

ResultT = TypeVar("ResultT")

_RESUME = "what was answered is kept: the same command goes on from there"
_START = "start the server, or correct its address"
_READ_LOG = "look at the server's log, and start the same command again"
_OTHER_ADDRESS = "give the address of an OpenAI-compatible server, as in http://localhost:8080/v1"
_MALFORMED_PAUSES = (0.5, 2.0)
"""Seconds before a request is sent again whose answer was malformed: a proxy may be starting."""
_MOST_BYTES = 64 * 2**20
"""Bytes of an answer that are read. An echo of 100 000 tokens with their numbers has 10 MiB."""
_PAUSE = 0.5
"""Seconds before a page is asked for again from a server that cannot be reached."""
_LONGEST_ANSWER_S = 600.0
"""Seconds from an answer's first byte to its last."""
_NOT_SUPPORTED = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.NOT_IMPLEMENTED,
)
"""What a server answers to a request of a kind that it does not serve; a wrong key or name and too
many requests have other codes."""


class PromptTooLongError(Exception):
    """The prompt does not fit into the server's context: not scored, and the run goes on."""


class NotSupportedError(HarnessError):
    """The server does not know how to serve such a request."""


class Server:
    """A server at an address. ``shown_url`` is the address without user name and password.

    Raises HarnessError for an invalid address.
    """

    def __init__(self, url: str, *, api_key: str, timeout: float, retries: int) -> None:
        self.url = url.rstrip("/")
        self.shown_url = without_credentials(self.url)
        if not _is_address(self.url):
            raise HarnessError(
                f"{self.shown_url!r} is not the address of a server",
                hint="for example http://localhost:8080/v1",
            )
        from openai import OpenAI

        self.client: OpenAI = OpenAI(
            base_url=self.url, api_key=api_key, max_retries=retries, timeout=timeout
        )
        self._pauses = _MALFORMED_PAUSES[:retries]
        self._has_answered = False

    def ask(
        self,
        settings: dict[str, Any],
        read: Callable[[dict[str, Any]], ResultT],
        *,
        chat: bool = False,
    ) -> ResultT:
        """Send one request and ``read`` the answer's first choice; again where it is malformed.

        Raises HarnessError for an answer that stays malformed, for a server that cannot be reached
        and for a refusal: NotSupportedError where it serves no such request. Raises
        PromptTooLongError for a prompt beyond its context.
        """
        return self._again(lambda: self._ask_once(settings, read, chat))

    def ask_ollama(
        self, settings: dict[str, Any], read: Callable[[dict[str, Any]], ResultT]
    ) -> ResultT:
        """The same by ``/api/generate`` of Ollama, whose whole answer is ``read``."""
        return self._again(lambda: self._ask_ollama_once(settings, read))

    def _again(self, ask_once: Callable[[], ResultT]) -> ResultT:
        for pause in (*self._pauses, None):
            try:
                answer = ask_once()
            except MalformedError as error:
                if pause is None:
                    message = f"the server gives a malformed answer: {error}"
                    raise self._failure(message, _OTHER_ADDRESS) from None
                time.sleep(pause)
            else:
                self._has_answered = True
                return answer
        raise AssertionError("unreachable: the last try returns or raises")

    def _ask_once(
        self, settings: dict[str, Any], read: Callable[[dict[str, Any]], ResultT], chat: bool
    ) -> ResultT:
        import openai

        endpoint: Any = self.client.chat.completions if chat else self.client.completions
        try:
            return read(read_choice(_body(endpoint.with_streaming_response.create, settings)))
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APIConnectionError as error:  # a time-out too
            raise self.unreachable(error) from None

    def _ask_ollama_once(
        self, settings: dict[str, Any], read: Callable[[dict[str, Any]], ResultT]
    ) -> ResultT:
        import openai

        try:
            page = self.page("/api/generate", settings)
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        if page is None:
            raise MalformedError("no JSON object")
        return read(page)

    def page(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        client: OpenAI | None = None,
        tries: int = 1,
    ) -> dict[str, Any] | None:
        """A page outside the server's ``/v1``, by GET, or by POST with a ``body``.

        None for anything but a JSON object, such as a page for people. Raises HarnessError for a
        server that cannot be reached ``tries`` times, and APIStatusError for a refusal.
        """
        import openai

        client, url = client or self.client, self.url.removesuffix("/v1") + path
        for left in reversed(range(tries)):
            try:
                page = (
                    client.get(url, cast_to=object)
                    if body is None
                    else client.post(url, cast_to=object, body=body)
                )
            except openai.APIConnectionError as error:  # a time-out too
                if not left:
                    raise self.unreachable(error) from None
                time.sleep(_PAUSE)
            except (ValueError, RecursionError):  # no JSON
                return None
            else:
                return page if isinstance(page, dict) else None
        raise AssertionError("unreachable: the last try returns or raises")

    def unreachable(self, error: Exception) -> HarnessError:
        """The error for a server that does not answer."""
        return self._failure(f"the server cannot be reached: {one_line(str(error))}", _START)

    def _failure(self, message: str, first: str) -> HarnessError:
        """An error after which the command may resume; ``first`` is the hint before any answer."""
        hint = _RESUME if self._has_answered else first
        return HarnessError(message, where=self.shown_url, hint=hint)

    def _refusal(self, error: APIStatusError) -> Exception:
        code = error.status_code
        # the client's message has the text of {"error": {"message": text}}, not of {"error": text}
        text = error.body if isinstance(error.body, str) and error.body else error.message
        if code == HTTPStatus.BAD_REQUEST and "context" in text.lower():
            return PromptTooLongError()
        message = f"the server answers {code}: {one_line(text)}"
        if code in _NOT_SUPPORTED:
            hint = "the server does not serve such a request: look at its log"
            return NotSupportedError(message, where=self.shown_url, hint=hint)
        if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            wait = error.response.headers.get("retry-after", "")
            asked = f"; it asks to wait {wait[:20]} s" if wait[:1].isdigit() else ""
            return self._failure(message + asked, _READ_LOG)
        hint = "look at the server's log, and at --api-key-env and the model's name"
        return HarnessError(message, where=self.shown_url, hint=hint)


def _body(create: Any, settings: dict[str, Any]) -> str:
    """Send a request and read the answer's text; bytes that are no UTF-8 are replaced.

    Raises MalformedError for an answer that breaks off, or that does not end.
    """
    parts: list[bytes] = []
    size, until = 0, time.monotonic() + _LONGEST_ANSWER_S
    with create(**settings) as reply:
        try:
            for part in reply.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MOST_BYTES or time.monotonic() > until:
                    raise MalformedError(f"no end after {size} bytes")
        except MalformedError:
            raise
        except Exception as error:  # of the HTTP library, of which the client may use several
            raise MalformedError(f"it breaks off ({type(error).__name__})") from None
    return b"".join(parts).decode("utf-8", "replace")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, or a port that is no number
        return False
