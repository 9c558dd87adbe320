"""The syntax of Go's text/template, as far as Ollama's chat templates use it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.errors import HarnessError


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, a number, true, false or nil."""

    value: Any


@dataclass(frozen=True, slots=True)
class Field:
    """``.A.B``, ``$x.A`` or ``(…).A``: a path from the dot, a variable or a pipeline."""

    path: tuple[str, ...]
    variable: str | None = None
    inner: Pipe | None = None


@dataclass(frozen=True, slots=True)
class Function:
    name: str


Operand = Literal | Field | Function


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands whose last argument is the result of the one before; ``sets`` are variables."""

    commands: tuple[tuple[Operand, ...], ...]
    sets: tuple[str, ...] = ()
    declares: bool = False


@dataclass(slots=True)
class Text:
    text: str


@dataclass(slots=True)
class Action:
    """``{{ pipeline }}``"""

    pipe: Pipe


@dataclass(slots=True)
class Branch:
    """``if``, ``with`` or ``range`` with its two bodies."""

    kind: str
    pipe: Pipe
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Jump:
    """``break`` or ``continue``."""

    kind: str


Node = Text | Action | Branch | Jump

_ACTION = re.compile(
    r"\{\{(?P<left>-(?=\s))?"
    r"(?P<body>(?:\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`|/\*.*?\*/|(?!\}\}|\s-\}\}|/\*)[^\"`])*)"
    r"(?P<right>\s-)?\}\}",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"\s*(?:(?P<string>\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`)"
    r"|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<variable>\$\w*(?:\.[A-Za-z_]\w*)*)"
    r"|(?P<field>(?:\.[A-Za-z_]\w*)+)|(?P<dot>\.)"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<sign>:=|=|\||,|\()|(?P<close>\)(?:\.[A-Za-z_]\w*)*))"
)
_WORD = re.compile(r"\w*")
_WORDS = {"true": True, "false": False, "nil": None}
_WHITE = " \t\r\n"


def parse_go(source: str) -> list[Node]:
    """The nodes of a template. Raises HarnessError, with the line, for what is not read."""
    top: list[Node] = []
    open_branches: list[tuple[Branch, bool]] = []
    into = top
    for text, body, line in _pieces(source):
        if text:
            into.append(Text(text))
        word, rest = _keyword(body)
        if not body or body.startswith("/*"):
            continue
        if word in ("if", "with", "range"):
            branch = Branch(word, _parse_pipe(rest, line))
            into.append(branch)
            open_branches.append((branch, False))
            into = branch.body
        elif word == "else" and open_branches:
            branch = open_branches[-1][0]
            into = branch.otherwise
            kind, condition = _keyword(rest)
            if kind in ("if", "with"):
                nested = Branch(kind, _parse_pipe(condition, line))
                into.append(nested)
                open_branches.append((nested, True))
                into = nested.body
        elif word == "end" and open_branches:
            while open_branches.pop()[1]:
                pass
            into = _open(top, open_branches)
        elif word in ("break", "continue"):
            into.append(Jump(word))
        elif word in ("define", "template", "block", "else", "end"):
            raise _fault(f"{{{{ {body} }}}} is not read here", line)
        else:
            into.append(Action(_parse_pipe(body, line)))
    if open_branches:
        raise _fault(f"{{{{ {open_branches[-1][0].kind} }}}} has no end", source.count("\n") + 1)
    return top


def _keyword(body: str) -> tuple[str, str]:
    """The first word and the rest: Go ends a keyword at white space, a bracket or a dot."""
    word = _WORD.match(body)[0]  # type: ignore[index]  # matches any text
    return word, body[len(word) :].strip()


def _open(top: list[Node], open_branches: list[tuple[Branch, bool]]) -> list[Node]:
    if not open_branches:
        return top
    branch, _ = open_branches[-1]
    return branch.otherwise or branch.body


def _pieces(source: str) -> Iterator[tuple[str, str, int]]:
    """Each text with the action behind it, white space cut where ``-`` says so."""
    at, trims = 0, False
    for action in _ACTION.finditer(source):
        text = source[at : action.start()]
        text = text.lstrip(_WHITE) if trims else text
        line = source.count("\n", 0, action.start()) + 1
        yield text.rstrip(_WHITE) if action["left"] else text, action["body"].strip(), line
        at, trims = action.end(), action["right"] is not None
    text = source[at:]
    if "{{" in text:
        line = source.count("\n", 0, at + text.index("{{")) + 1
        raise _fault("an action does not end", line)
    yield text.lstrip(_WHITE) if trims else text, "", 0


def _fault(message: str, line: int) -> HarnessError:
    return HarnessError(f"line {line} of the Go template: {message}")


def _parse_pipe(body: str, line: int) -> Pipe:
    reader = _Reader(_tokens(body, line), body, line)
    pipe = reader.pipe(top=True)
    if reader.tokens:
        raise _fault(f"cannot read {body!r}", line)
    return pipe


def _tokens(body: str, line: int) -> list[tuple[str, str]]:
    tokens, at = [], 0
    body = body.rstrip()
    while at < len(body):
        match = _TOKEN.match(body, at)
        if match is None or match.end() == at:
            raise _fault(f"cannot read {body[at:]!r}", line)
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return tokens


@dataclass
class _Reader:
    tokens: list[tuple[str, str]]
    body: str
    line: int

    def pipe(self, *, top: bool = False) -> Pipe:
        sets, declares = self._sets() if top else ((), False)
        commands = [self._command()]
        while self.tokens and self.tokens[0] == ("sign", "|"):
            self.tokens.pop(0)
            commands.append(self._command())
        return Pipe(tuple(commands), sets, declares)

    def _sets(self) -> tuple[tuple[str, ...], bool]:
        signs = [at for at, token in enumerate(self.tokens) if token[1] in (":=", "=")]
        if not signs or any(
            kind != "variable" and text != "," for kind, text in self.tokens[: signs[0]]
        ):
            return (), False
        names = tuple(text for kind, text in self.tokens[: signs[0]] if kind == "variable")
        declares = self.tokens[signs[0]][1] == ":="
        del self.tokens[: signs[0] + 1]
        return names, declares

    def _command(self) -> tuple[Operand, ...]:
        operands = []
        while self.tokens and self.tokens[0][0] != "close" and self.tokens[0][1] not in ("|", ","):
            operands.append(self._operand())
        if not operands:
            raise _fault(f"cannot read {self.body!r}", self.line)
        return tuple(operands)

    def _operand(self) -> Operand:
        kind, text = self.tokens.pop(0)
        if kind == "string":
            return Literal(text[1:-1] if text[0] == "`" else ast.literal_eval(text))
        if kind == "number":
            return Literal(float(text) if "." in text else int(text))
        if kind == "word":
            return Literal(_WORDS[text]) if text in _WORDS else Function(text)
        if kind in ("field", "dot"):
            return Field(tuple(part for part in text.split(".") if part))
        if kind == "variable":
            name, _, rest = text.partition(".")
            return Field(tuple(part for part in rest.split(".") if part), variable=name)
        if text == "(":
            inner = self.pipe()
            if self.tokens and self.tokens[0][0] == "close":
                path = tuple(part for part in self.tokens.pop(0)[1][1:].split(".") if part)
                return Field(path, inner=inner)
        raise _fault(f"cannot read {self.body!r}", self.line)
