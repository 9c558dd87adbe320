"""Name the difference between a prompt as it was trained and the text that a runtime sends.

A difference has a name if one change explains all of it; else it is another template.
"""

from __future__ import annotations

import re

from harness.ship.checks.trained_texts import TrainedPrompt

OTHER = "other-template"
_SHOWN_BEFORE, _SHOWN = 16, 44
_ROLES = re.compile(
    "system|developer|user|human|person|customer|assistant|model|bot|ai|gpt|chatbot|agent|character"
    "|tool|ipython|observation|function|environment|instruction|input|response|question|answer",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r'\\u[0-9a-fA-F]{4}|\\[nrt"/\\]')
_PLAIN = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\"": '"', r"\/": "/", "\\\\": "\\"}
_ENTITIES = {"&quot;": '"', "&#34;": '"', "&#39;": "'", "&lt;": "<", "&gt;": ">", "&amp;": "&"}
_ENTITY = re.compile("|".join(map(re.escape, _ENTITIES)))
_MARK = re.compile(r"<[^<>\s]*>|\[[^\[\]\s]*\]")
_PIECE = re.compile(r"\w+|\s+|[^\w\s]")


def text_kind(prompt: TrainedPrompt, sent: str, *, bos: str, stops: tuple[str, ...]) -> str:
    """The kind of difference, "" if the texts are equal. BOS at the beginning is ignored."""
    trained, sent = without_bos(prompt.rendered.text, bos)[0], without_bos(sent, bos)[0]
    if sent == trained:
        return ""
    kinds = (
        _of_the_end(prompt, trained, sent, bos),
        "spacing" if _squeezed(sent) == _squeezed(trained) else "",
        _of_escapes(trained, sent),
        _of_stops(prompt, trained, sent, bos, stops),
        _of_the_beginning(prompt, trained, sent),
        _of_messages(prompt, trained, sent),
        _of_roles(trained, sent),
    )
    return next(filter(None, kinds), OTHER)


def without_bos(text: str, bos: str) -> tuple[str, int]:
    """The text without BOS at its beginning, and how many there were."""
    count = 0
    while bos and text.startswith(bos):
        text, count = text[len(bos) :], count + 1
    return text, count


def window(trained: str, sent: str) -> str:
    """Both texts around their first difference, quoted."""
    at = next(
        (at for at, (one, other) in enumerate(zip(trained, sent, strict=False)) if one != other),
        min(len(trained), len(sent)),
    )
    return f"trained {_quoted(trained, at)}, sent {_quoted(sent, at)}"


def _quoted(text: str, at: int) -> str:
    start, end = max(0, at - _SHOWN_BEFORE), at + _SHOWN - _SHOWN_BEFORE
    return f"{'…' * (start > 0)}{text[start:end]!r}{'…' * (end < len(text))}"


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _of_the_end(prompt: TrainedPrompt, trained: str, sent: str, bos: str) -> str:
    """Whether the two differ only in what asks for the answer."""
    asked = without_bos(prompt.without_prompt, bos)[0]
    if not asked:
        return ""
    if sent == asked:
        return "generation-prompt-missing"
    mine, theirs = trained[len(asked) :], sent[len(asked) :]
    if not sent.startswith(asked) or _squeezed(mine) == _squeezed(theirs):
        return ""
    return "" if _of_roles(mine, theirs) else "other-generation-prompt"


def _of_escapes(trained: str, sent: str) -> str:
    if _undoubled(sent) == _undoubled(trained):
        return "doubled-braces"
    for undo in (_unescaped, _unentitled):
        if undo(sent) == undo(trained):
            return "escaped-json"
    return ""


def _undoubled(text: str) -> str:
    return re.sub(r"([{}])\1+", r"\1", text)


def _unescaped(text: str) -> str:
    """The text with its JSON escapes undone, up to twice."""
    for _ in range(2):
        text = _ESCAPE.sub(lambda m: _PLAIN.get(m[0]) or _letter(m[0]), text)
    return text


def _letter(escape: str) -> str:
    code = int(escape[2:], 16)
    return escape if 0xD800 <= code <= 0xDFFF else chr(code)


def _unentitled(text: str) -> str:
    return _ENTITY.sub(lambda m: _ENTITIES[m[0]], text)


def _of_stops(
    prompt: TrainedPrompt, trained: str, sent: str, bos: str, stops: tuple[str, ...]
) -> str:
    """Whether only ends of turns are left out: those of answers, or one stop everywhere."""
    rendered = prompt.rendered
    for kind, name in (("eos", "missing-eos"), ("stop", "missing-stop"), ("", "missing-stop")):
        left = {kind} if kind else {"eos", "stop"}
        kept = [text for text, of in rendered.pieces if of not in left]
        if without_bos("".join(kept), bos)[0] == sent:
            return name
    for stop in filter(str.strip, stops):
        if trained.replace(stop, "") == sent or trained.replace(stop.strip(), "") == sent:
            return "missing-stop"
    return ""


def _of_the_beginning(prompt: TrainedPrompt, trained: str, sent: str) -> str:
    """Whether words were added before the first question, or the system prompt left out."""
    question = next(
        (m.content.strip() for m in prompt.conversation.messages if m.role == "user"), ""
    )
    at, there = trained.find(question), sent.find(question)
    if not question or at < 0 or there < 0:
        return ""
    system = [m.content.strip() for m in prompt.conversation.messages if m.role == "system"]
    tail = trained[at:]
    if not sent.endswith(tail):
        return ""
    mine, theirs = trained[:at], sent[: len(sent) - len(tail)]
    if any(words and words not in theirs for words in system):
        return "dropped-system"
    if prompt.conversation.tools and not all(
        tool.name in theirs for tool in prompt.conversation.tools
    ):
        return ""
    added = _MARK.sub(" ", _inserted(mine, theirs))
    return "injected-system" if re.search(r"\w{2,}\W+\w{2,}|\w{4,}", added) else ""


def _inserted(mine: str, theirs: str) -> str:
    """The text inserted into ``mine`` at one place, "" if that does not give ``theirs``."""
    more = len(theirs) - len(mine)
    if more <= 0:
        return ""
    same = next(
        (at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other),
        len(mine),
    )
    if theirs[same + more :] != mine[same:]:
        return ""
    while same and theirs[same - 1] == theirs[same + more - 1]:  # whole marks, not "x|><|"
        same -= 1
    return theirs[same : same + more]


def _of_messages(prompt: TrainedPrompt, trained: str, sent: str) -> str:
    """Whether words of the conversation are missing."""
    conversation = prompt.conversation
    ours, theirs = _squeezed(trained), _squeezed(sent)

    def is_lost(words: str) -> bool:
        return _squeezed(words) in ours and _squeezed(words) not in theirs

    missing = [message for message in conversation.messages if is_lost(message.content)]
    last = conversation.messages[-1].content
    if missing and all(message.role in ("system", "developer") for message in missing):
        return "dropped-system"
    if missing:
        shorter = len(sent) < len(trained)
        cut = trained.startswith(sent) or (
            _squeezed(last) in theirs and missing[-1].content != last
        )
        return "truncated" if shorter and cut else ""
    names = [tool.name for tool in conversation.tools if tool.name in trained]
    names += [call.name for m in conversation.messages for call in m.tool_calls]
    if any(sent.count(name) < trained.count(name) for name in names):
        return "missing-tools"
    if any(is_lost(message.reasoning or "") for message in conversation.messages):
        return "missing-thought"
    return "truncated" if trained.startswith(sent) else ""


def _of_roles(trained: str, sent: str) -> str:
    """Whether only words were replaced, one by one, and each of them names a role."""
    ours, theirs = _PIECE.findall(trained), _PIECE.findall(sent)
    if len(ours) != len(theirs):
        return ""
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if one != other]
    renamed = pairs and all(
        _ROLES.fullmatch(one) and re.fullmatch(r"\w+", other) for one, other in pairs
    )
    return "role-renamed" if renamed else ""
