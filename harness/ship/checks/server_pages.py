"""Ask a server's own pages beside the API of OpenAI: tokens, templates, facts."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from harness.backends.server_calls import Server

RETRIES = 2
_MISSING = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_IMPLEMENTED,
)


class ServerPages:
    """The pages of a server at an address, with or without ``/v1`` at its end.

    Raises HarnessError for what is no address, and for a server that cannot be reached.
    """

    def __init__(self, url: str, *, api_key: str = "none") -> None:
        root = url.rstrip("/").removesuffix("/v1")
        self._server = Server(root, api_key=api_key, timeout=120.0, retries=RETRIES)
        self._root = root
        self.url = self._server.shown_url

    def get(self, path: str) -> dict[str, Any]:
        """A page of facts; empty where the server has none."""
        return self._ask("get", path, {}) or {}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request: ``{"error": reason}`` where it is refused.

        Empty where the server has no such page.
        """
        return self._ask("post", path, {"body": body}) or {}

    def _ask(self, method: str, path: str, options: dict[str, Any]) -> dict[str, Any] | None:
        import openai

        client = self._server.client
        try:
            page = getattr(client, method)(self._root + path, cast_to=object, **options)
        except openai.APIStatusError as error:
            if error.status_code in _MISSING:
                return None
            return {"error": _reason(error)}
        except openai.APIConnectionError as error:
            raise self._server.unreachable(error) from None
        except (ValueError, RecursionError):  # no JSON: a page for people
            return None
        return page if isinstance(page, dict) else None


def _reason(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("error") or body
    return " ".join(str(body or error.message).split())[:300]
