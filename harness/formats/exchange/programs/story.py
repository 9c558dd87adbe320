"""SillyTavern's story string: a Handlebars template for what comes before the chat.

Only the parts of Handlebars that story strings use are read: values, ``if``, ``unless``, ``else``,
comments, ``~``, and the rule that a line with nothing but a block tag leaves no line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.errors import HarnessError

_TAG = re.compile(
    r"\{\{(?P<left>~?)(?:!--.*?--|!(?!--)[^{}]*|\{?(?P<body>[^{}]*?)\}?)(?P<right>~?)\}\}",
    re.DOTALL,
)
_BLOCK = re.compile(r"#\s*(if|unless)\s+([\w.]+)")
_ELSE = re.compile(r"else|\^")


@dataclass
class _Text:
    """Literal text: as it is written, and what is left of it."""

    written: str
    left: str = ""
    cut_left: bool = False
    cut_right: bool = False

    def __post_init__(self) -> None:
        self.left = self.written

    def cut_start(self, pattern: str, *, many: bool = False) -> None:
        """Cut white space at the start, once unless ``many``."""
        if many or not self.cut_left:
            before, self.left = self.left, re.sub(pattern, "", self.left, count=1)
            self.cut_left = self.left != before

    def cut_end(self, pattern: str, *, many: bool = False) -> None:
        """Cut white space at the end, once unless ``many``."""
        if many or not self.cut_right:
            before, self.left = self.left, re.sub(pattern, "", self.left, count=1)
            self.cut_right = self.left != before


@dataclass
class _Value:
    name: str
    tildes: tuple[bool, bool]


@dataclass
class _If:
    name: str
    when: bool
    tildes: tuple[bool, bool]
    body: list[_Node] = field(default_factory=list)
    otherwise: list[_Node] | None = None
    else_tildes: tuple[bool, bool] = (False, False)
    end_tildes: tuple[bool, bool] = (False, False)


_Node = _Text | _Value | _If


def fill_story(story: str, values: Mapping[str, str], other: Callable[[str], str]) -> str:
    """The text of a story string with these values; ``other`` writes what is none of them.

    A value that is empty or missing counts as false. Raises HarnessError for a story string that
    does not parse or uses another block.
    """
    nodes = _parse(story)
    _control_white_space(nodes, root=True)
    return "".join(_write(nodes, values, other))


def _parse(story: str) -> list[_Node]:
    top: list[_Node] = []
    open_blocks: list[_If] = []
    into = top
    at = 0
    for tag in _TAG.finditer(story):
        if tag.start() > at:
            into.append(_Text(story[at : tag.start()]))
        at = tag.end()
        body = (tag["body"] or "").strip()
        tildes = (tag["left"] == "~", tag["right"] == "~")
        if block := _BLOCK.fullmatch(body):
            opened = _If(block[2], block[1] == "if", tildes)
            into.append(opened)
            open_blocks.append(opened)
            into = opened.body
        elif _ELSE.fullmatch(body) and open_blocks:
            open_blocks[-1].otherwise = into = []
            open_blocks[-1].else_tildes = tildes
        elif body.startswith("/") and open_blocks:
            open_blocks.pop().end_tildes = tildes
            last = open_blocks[-1] if open_blocks else None
            into = top if last is None else last.body if last.otherwise is None else last.otherwise
        elif body.startswith(("#", "/", ">", "^", "else")):
            raise HarnessError(f"the story string has {tag[0]}, which is not read here")
        else:
            into.append(_Value(body, tildes))
    if open_blocks:
        raise HarnessError(f"the story string does not close {{{{#if {open_blocks[-1].name}}}}}")
    if at < len(story):
        into.append(_Text(story[at:]))
    return top


_SPACES, _LINE_START, _LINE_END = r"\A\s+", r"\A[ \t]*\r?\n?", r"[ \t]+\Z"


def _control_white_space(nodes: list[_Node], *, root: bool) -> None:
    """Cut what ``~`` cuts, and the lines of block tags that have a line of their own."""
    for at, node in enumerate(nodes):
        if isinstance(node, _Text):
            continue
        before = nodes[at - 1] if at else None
        behind = nodes[at + 1] if at + 1 < len(nodes) else None
        left, right = node.tildes
        is_comment = isinstance(node, _Value) and not node.name
        if (
            is_comment
            and _ends_line(nodes[:at], root=root)
            and _starts_line(nodes[at + 1 :], root=root)
        ):
            _cut([behind] if behind else None, [before] if before else None)
        if isinstance(node, _If):
            _control_white_space(node.body, root=False)
            _control_white_space(node.otherwise or [], root=False)
            last = node.body if node.otherwise is None else node.otherwise
            starts_line = _ends_line(nodes[:at], root=root)
            ends_line = _starts_line(nodes[at + 1 :], root=root)
            own_line_open = starts_line and _starts_line(node.body, root=False)
            own_line_close = ends_line and _ends_line(last, root=False)
            own_line_else = node.otherwise is not None and (
                _ends_line(node.body, root=False) and _starts_line(node.otherwise, root=False)
            )
            _cut(node.body[:1], None, many=right)
            if node.otherwise is not None:
                _cut(None, node.body[-1:], many=node.else_tildes[0])
                _cut(node.otherwise[:1], None, many=node.else_tildes[1])
            _cut(None, last[-1:], many=node.end_tildes[0])
            right = node.end_tildes[1]
            if own_line_else and node.otherwise is not None:
                _cut(node.otherwise[:1], node.body[-1:])
            if own_line_open:
                _cut(node.body[:1], [before] if before else None)
            if own_line_close:
                _cut([behind] if behind else None, last[-1:])
        if left and isinstance(before, _Text):
            before.cut_end(r"\s+\Z", many=True)
        if right and isinstance(behind, _Text):
            behind.cut_start(_SPACES, many=True)


def _cut(start: list[_Node] | None, end: list[_Node] | None, many: bool | None = None) -> None:
    """Cut the start of one text and the end of another: a line's rest, or with ``many`` all."""
    if many is False:
        return
    for node in start or ():
        if isinstance(node, _Text):
            node.cut_start(_SPACES if many else _LINE_START, many=bool(many))
    for node in end or ():
        if isinstance(node, _Text):
            node.cut_end(r"\s+\Z" if many else _LINE_END, many=bool(many))


def _ends_line(nodes: list[_Node], *, root: bool) -> bool:
    """Whether a line begins behind these nodes."""
    if not nodes:
        return root
    pattern = r"\n[^\S\n]*\Z" if len(nodes) > 1 or not root else r"(?:\A|\n)[^\S\n]*\Z"
    return isinstance(nodes[-1], _Text) and bool(re.search(pattern, nodes[-1].written))


def _starts_line(nodes: list[_Node], *, root: bool) -> bool:
    """Whether the line ends where these nodes begin."""
    if not nodes:
        return root
    pattern = r"[^\S\n]*\n" if len(nodes) > 1 or not root else r"[^\S\n]*(?:\n|\Z)"
    return isinstance(nodes[0], _Text) and bool(re.match(pattern, nodes[0].written))


def _write(
    nodes: list[_Node], values: Mapping[str, str], other: Callable[[str], str]
) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _Text):
            yield node.left
        elif isinstance(node, _If):
            chosen = node.body if bool(values.get(node.name)) == node.when else node.otherwise
            yield from _write(chosen or [], values, other)
        elif node.name:  # not a comment
            yield values[node.name] if node.name in values else other(node.name)
