"""The names that data sets use for speakers, and what their entries hold."""

from __future__ import annotations

from typing import Literal, NamedTuple

from harness.conversation import Role


class Speaker(NamedTuple):
    """A role, and whether the entry's text is plain text, a thought or tool calls."""

    role: Role
    holds: Literal["words", "thought", "calls"] = "words"


#: OpenAI and transformers; ShareGPT as FastChat, axolotl and LLaMA-Factory write it; Llama's
#: ``ipython``. Others are refused.
SPEAKERS = {
    "system": Speaker("system"),
    "developer": Speaker("developer"),
    "user": Speaker("user"),
    "human": Speaker("user"),
    "assistant": Speaker("assistant"),
    "gpt": Speaker("assistant"),
    "chatgpt": Speaker("assistant"),
    "bard": Speaker("assistant"),
    "bing": Speaker("assistant"),
    "model": Speaker("assistant"),
    "thought": Speaker("assistant", "thought"),
    "thinking": Speaker("assistant", "thought"),
    "reasoning": Speaker("assistant", "thought"),
    "function_call": Speaker("assistant", "calls"),
    "tool_call": Speaker("assistant", "calls"),
    "tool": Speaker("tool"),
    "function": Speaker("tool"),
    "observation": Speaker("tool"),
    "tool_response": Speaker("tool"),
    "function_response": Speaker("tool"),
    "tool_result": Speaker("tool"),
    "ipython": Speaker("tool"),
}
