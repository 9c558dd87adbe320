"""Ask a server's own pages outside the API of OpenAI: tokens, templates, facts."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from harness.backends.server_calls import Server
from harness.errors import HarnessError

TRIES = 3
_MISSING = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_IMPLEMENTED,
)
_REFUSED = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
"""What servers answer where a template raises; 500 is llama-server's, and is not asked again."""


class ServerPages:
    """The pages of a server at an address, with or without ``/v1`` at its end.

    Raises HarnessError for an invalid address, for a server that cannot be reached, and for one
    that refuses the key, is still loading or is overloaded.
    """

    def __init__(self, url: str, *, api_key: str = "none") -> None:
        self._server = Server(url, api_key=api_key, timeout=120.0, retries=0)
        self.url = self._server.shown_url

    def get(self, path: str) -> dict[str, Any]:
        """A page of facts; empty where the server has none, or answers with an error."""
        page = self._ask(path)
        return {} if "error" in page else page

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request: ``{"error": reason}`` where it is refused.

        Empty where the server has no such page.
        """
        return self._ask(path, body)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        import openai

        try:
            return self._server.page(path, body, tries=TRIES) or {}
        except openai.APIStatusError as error:
            code, reason = error.status_code, _reason(error)
            if code in _MISSING:
                return {}
            if code in _REFUSED:
                return {"error": reason}
            hint = "look at the server's log, and at --api-key-env"
            raise HarnessError(f"the server answers {code}: {reason}", self.url, hint) from None


def _reason(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body  # the client takes them out of {"error": …}
    return " ".join(str(body or error.message).split())[:300]
