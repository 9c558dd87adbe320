"""llama.cpp's own server in a process of its own: prompts and ids of a GGUF file.

Reads one JSON object from its input: ``model`` and ``requests``, each with ``messages``, ``tools``
and ``chat_template_kwargs``. Writes one line for each: ``{"prompt", "tokens"}`` or ``{"error"}``. A
request with a ``content`` is only tokenised; one with a ``force`` makes the model write that token,
and ``{"ends"}`` says whether it ended the answer. The library does not free all of a server, so
each file has a process of its own.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

_PATIENCE_S = 120
_FORCED = 1000.0
"""Added to the logit of a forced token, so that the model writes it whatever it would write."""


def _main() -> None:
    import xllamacpp

    job = json.load(sys.stdin)
    params = xllamacpp.CommonParams()
    params.model.path, params.use_jinja, params.warmup = job["model"], True, False
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 256, 1, 0
    params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, 0
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads, cpu.poll = 1, 0
    server = xllamacpp.Server(params)
    for request in job["requests"]:
        print(json.dumps(_answer(server.listening_address, request)), flush=True)


def _answer(address: str, request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "force" in request:
            return {"ends": _ends(address, request["force"])}
        content = request.get("content")
        if content is None:
            content = _post(f"{address}/apply-template", request)["prompt"]
        # as the server itself tokenises a chat
        asked = {"content": content, "add_special": True, "parse_special": True}
        return {"prompt": content, "tokens": _post(f"{address}/tokenize", asked)["tokens"]}
    except urllib.error.HTTPError as error:
        return {"error": _reason(error.read())}


def _ends(address: str, token: int) -> bool:
    asked = {"prompt": "a", "n_predict": 2, "temperature": 0, "logit_bias": [[token, _FORCED]]}
    return bool(_post(f"{address}/completion", asked)["stop_type"] == "eos")


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(  # noqa: S310  # our own server on loopback
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as page:  # noqa: S310
        return json.load(page)


if __name__ == "__main__":
    _main()
