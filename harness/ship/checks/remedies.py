"""What to do about each kind of difference."""

from __future__ import annotations

_TEMPLATE = {
    "hf": "write chat_template.jinja again with harness export, and delete other copies of it",
    "llamacpp": "start llama-server with --jinja --chat-template-file FILE, or convert the model "
    "again so that the GGUF file holds this template",
    "ollama": "use the TEMPLATE that harness formats export FORMAT --for ollama writes",
    "vllm": "start vLLM with --chat-template FILE, or fix chat_template.jinja in the model folder",
    "sglang": "start SGLang with --chat-template FILE, or fix chat_template.jinja in the model "
    "folder",
    "webui": "select the exported instruction template in the tab Parameters",
}
_REMEDIES = {
    "double-bos": "write BOS once: remove it from the template, or set add_bos_token to false",
    "missing-bos": "write BOS: set add_bos_token to true, or begin the template with bos_token",
    "unexpected-bos": "the model was trained without BOS: set add_bos_token to false",
    "missing-eos": "write eos_token after each earlier answer in the template",
    "missing-stop": "write the stop after each turn in the template",
    "injected-system": "remove the default system prompt, or train with it",
    "dropped-system": "use a template that writes the system prompt",
    "escaped-json": "write the text itself: in the template, do not escape it or dump it as JSON "
    "twice",
    "doubled-braces": "write each brace once: the template was escaped for str.format or f-strings",
    "generation-prompt-missing": "ask with add_generation_prompt, and end the template with it",
    "truncated": "raise the context length: earlier messages are cut off",
    "missing-tools": "use a template with tools, or do not send tools to this runtime",
    "missing-thought": "use a template that keeps thoughts where training kept them",
    "added-eos": "set add_eos_token to false: the prompt must not end in EOS",
    "special-as-text": "mark the tokens as special (CONTROL in a GGUF file), and tokenise with "
    "parse_special",
    "control-in-content": "a message contains the text of a control token, which training read as "
    "text: remove it from the messages",
    "edge-merged": "the tokenizer merges the edge of an earlier answer with the next text, and "
    "training did not: choose a format whose marks are tokens of this model",
    "other-tokenizer": "ship the tokenizer files of the trained model, and convert again from them",
    "other-switch": "set the switch as in training: chat_template_kwargs in a request, or "
    "--chat-template-kwargs of llama-server",
    "refused": "use the template that was trained",
}


def remedy(kind: str, runtime: str) -> str:
    """One sentence for the user of this runtime."""
    return _REMEDIES.get(kind) or _TEMPLATE.get(runtime, _TEMPLATE["hf"])
