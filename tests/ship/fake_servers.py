"""Servers on loopback that answer as llama-server, vLLM, SGLang, Ollama and webui do.

Written from their documentation and source; none of them is run here.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness.conversation import Message
from harness.formats.exchange.programs.ollama_reading import ollama_prompts, read_modelfile


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.body = status, {"error": {"message": message}}


class FakeServer(ThreadingHTTPServer):
    """``template`` is the one that the server applies: the model's, or an override."""

    daemon_threads = True

    def __init__(self, tokenizer, template, **settings):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tokenizer, self.template, self.settings = tokenizer, template, settings
        self.asked, self.keys = [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def text(self, body):
        from transformers.utils.chat_template_utils import render_jinja_template

        rows = deepcopy(body["messages"])
        for row in rows:
            for call in row.get("tool_calls", ()):  # servers parse the JSON text of the API
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        try:
            texts, _ = render_jinja_template(
                [rows],
                tools=body.get("tools"),
                chat_template=self.template,
                add_generation_prompt=body.get("add_generation_prompt", True),
                bos_token=self.tokenizer.bos_token,
                eos_token=self.tokenizer.eos_token,
                **body.get("chat_template_kwargs", {}),
            )
        except Exception as error:
            raise Refused(400, str(error)) from None
        return texts[0]

    def echo(self, body, *, special, offsets):
        """An echo with log-probabilities; ``offsets`` gives the place of each token."""
        ids = self.ids(body["prompt"], special=special)
        tokens = [self.tokenizer.decode([one]) for one in ids]
        places = [offsets(tokens, at) for at in range(len(tokens))]
        values = [None, *[-1.0] * (len(tokens) - 1)]
        logprobs = {"tokens": tokens, "token_logprobs": values, "text_offset": places}
        return {"choices": [{"text": body["prompt"], "logprobs": logprobs}]}

    def ids(self, text, *, special, parse=True):
        more = {} if parse else {"split_special_tokens": True}
        return self.tokenizer(text, add_special_tokens=special, **more).input_ids


class LlamaServer(FakeServer):
    """It takes BOS out of a rendered template where its tokenizer adds one."""

    def get(self, path):
        if path != "/props":
            return None
        params = {"temperature": 0.8, "repeat_penalty": 1.0, **self.settings.get("params", {})}
        size = self.settings.get("context", 2048)
        defaults = {"n_ctx": size, "params": params}
        return {"default_generation_settings": defaults, "chat_template": self.template}

    def post(self, path, body):
        if path == "/apply-template":
            text, bos = self.text(body), self.tokenizer.bos_token
            adds = self.ids("", special=True)[:1] == [self.tokenizer.bos_token_id]
            return {"prompt": text.removeprefix(bos) if adds else text}
        if path == "/tokenize":
            parse = body.get("parse_special", True) and self.settings.get("parse", True)
            return {"tokens": self.ids(body["content"], special=body["add_special"], parse=parse)}
        return None


class Vllm(FakeServer):
    """Messages are tokenised without another BOS, a prompt with it."""

    name = "tuned"

    def get(self, path):
        entry = {"id": self.name, "max_model_len": self.settings.get("context", 2048)}
        pages = {"/version": {"version": "0.32.0"}, "/v1/models": {"data": [entry]}}
        return pages.get(path)

    def post(self, path, body):
        if body.get("model") != self.name:
            raise Refused(404, "The model does not exist.")
        if path == "/tokenize":
            special = body.get("add_special_tokens", "prompt" in body)
            text = body["prompt"] if "prompt" in body else self.text(body)
            ids = self.ids(text, special=special or self.settings.get("adds_bos", False))
            return {"tokens": ids, "count": len(ids), "max_model_len": 2048, "token_strs": None}
        if path == "/v1/completions":  # offsets count the BOS that it put before
            return self.echo(body, special=True, offsets=lambda all, at: len("".join(all[:at])))
        if path == "/detokenize":
            return {"prompt": self.tokenizer.decode(body["tokens"])}
        return None


class Sglang(FakeServer):
    """The ids of a prompt come with an answer; its /tokenize takes no messages."""

    def get(self, path):
        info = {"model_path": "./hf", "is_generation": True}
        limit = {"context_length": self.settings.get("context", 2048)}
        models = {"data": [{"id": "tuned", "max_model_len": None}]}
        pages = {"/get_model_info": info, "/get_server_info": limit, "/v1/models": models}
        return pages.get(path)

    def post(self, path, body):
        if path == "/v1/chat/completions":
            choice = {"message": {"content": "x"}, "finish_reason": "length"}
            if body.get("return_prompt_token_ids") and not self.settings.get("old"):
                choice["prompt_token_ids"] = self.ids(self.text(body), special=False)
            return {"choices": [choice]}
        if path == "/v1/completions":
            return self.echo(body, special=True, offsets=lambda all, at: -1)
        if path == "/tokenize":
            special = body.get("add_special_tokens", True)
            return {"tokens": self.ids(body["prompt"], special=special), "max_model_len": -1}
        if path == "/detokenize":
            skip = body.get("skip_special_tokens", True)
            return {"text": self.tokenizer.decode(body["tokens"], skip_special_tokens=skip)}
        return None


class Webui(FakeServer):
    """text-generation-webui with the instruction template ``template``."""

    def get(self, path):
        pages = {"/v1/internal/model/info": {"model_name": "tuned"}, "/v1/models": {"data": []}}
        return pages.get(path)

    def post(self, path, body):
        if path == "/v1/internal/chat-prompt" and body["mode"] == "instruct":
            return {"prompt": self.text(body)}
        if path == "/v1/internal/encode":
            ids = self.ids(body["text"], special=False)
            return {"tokens": ids, "length": len(ids)}
        return None


class Ollama(FakeServer):
    """``template`` is the whole Modelfile. A model without .Tools refuses tools."""

    def get(self, path):
        pages = {"/api/version": {"version": "0.12.0"}, "/v1/models": {"data": [{"id": "tuned"}]}}
        return pages.get(path)

    def post(self, path, body):
        if body.get("model") != "tuned":
            raise Refused(404, "model not found")
        modelfile = read_modelfile(self.template)
        if path == "/api/show":
            return {"modelfile": self.template, "template": modelfile.template}
        if path == "/api/chat":
            if body.get("tools") and ".Tools" not in modelfile.template:
                raise Refused(400, "tuned does not support tools")
            rows = [Message(row["role"], row["content"]) for row in body["messages"]]
            text = ollama_prompts(modelfile.template, modelfile.system)(rows)
            if self.settings.get("old") or not body.get("_debug_render_only"):
                return {"message": {"content": "x"}, "done": True}
            return {"_debug_info": {"rendered_template": text}}
        return None


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer(self.server.get, self.path)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        self.answer(self.server.post, self.path, body)

    def answer(self, make, *asked):
        self.server.keys.append(self.headers["Authorization"])
        try:
            self.reply(200, make(*asked))
        except Refused as refusal:
            self.reply(refusal.status, refusal.body)

    def reply(self, status, table):
        status, table = (404, {"detail": "Not Found"}) if table is None else (status, table)
        content = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Pages:
    """What ``ServerPages`` gives: facts by their path, and answers or functions of a request."""

    url = "http://server"

    def __init__(self, facts=(), answers=()):
        self.facts, self.answers, self.asked = dict(facts), dict(answers), []

    def get(self, path):
        return self.facts.get(path, {})

    def post(self, path, body):
        self.asked.append((path, body))
        answer = self.answers.get(path, {})
        return answer(body) if callable(answer) else answer


@contextmanager
def running(server):
    """Serve until the block ends."""
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
