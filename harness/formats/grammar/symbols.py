"""Role names, delimiters, marks and white space that the grammar of formats draws from.

Most lists are cut in two by position: even positions are for training, odd ones for testing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

Split = Literal["train", "test"]
T = TypeVar("T")

ROLES = (
    ("system", "user", "assistant"),
    ("context", "question", "answer"),
    ("setting", "human", "machine"),
    ("rules", "input", "output"),
    ("note", "prompt", "reply"),
    ("background", "request", "response"),
    ("guide", "student", "teacher"),
    ("brief", "customer", "agent"),
    ("preface", "visitor", "host"),
    ("premise", "asker", "helper"),
    ("instructions", "query", "result"),
    ("frame", "interviewer", "guest"),
    ("directive", "task", "solution"),
    ("scene", "speaker", "listener"),
)
#: The opening and closing of a header, and marks that may close its turn ({} is the role).
DELIMITERS = (
    ("", ":", ()),
    ("### ", ":", ("### end",)),
    ("# ", "", ("---",)),
    ("**", ":**", ()),
    ("<", ">", ("</{}>", "<end>")),
    ("[", "]", ("[/{}]", "[end]")),
    ("<|", "|>", ("<|end|>", "<|/{}|>")),
    ("{{", "}}", ("{{/{}}}",)),
    ("[[", "]]", ("[[/{}]]", "[[.]]")),
    ("### ", "", ()),
    ("*", "*:", ()),
    ("== ", " ==", ("==",)),
    ("> ", ":", ()),
    ("(", ")", ("(/{})",)),
    ("@", ":", ()),
    ("<<", ">>", ("<</{}>>",)),
    ("--- ", " ---", ("---",)),
    ("__", "__:", ()),
    ("- ", ":", ()),
    ("## ", ":", ()),
    ("`", "`:", ()),
    ("|", "|", ("||",)),
    ("~ ", " ~", ("~",)),
    ("{", "}", ("{/{}}",)),
)
LEADS = (" ", "\n", "\n\n", "  ", "\t", "\n\t")
GAPS = ("\n", "\n\n", "\n\n\n", "\n \n", "\n---\n", "\n***\n", "\n\n---\n\n", "\n...\n")
CASINGS = ("lower", "title", "upper")

# The parts of tags. No shipped format contains a mark made of them (tests/formats/test_grammar.py),
# so that a held-out family stays unseen.

#: Brackets of a mark.
BRACKETS = (
    ("<", ">"),
    ("<|", "|>"),
    ("[", "]"),
    ("<<", ">>"),
    ("<|", ">"),
    ("[|", "|]"),
    ("{", "}"),
    ("<-", "->"),
    ("[[", "]]"),
    ("(", ")"),
    ("<:", ":>"),
    ("{|", "|}"),
)
#: The words that open and close a turn or a header, and the things that they open.
EDGES = (
    ("begin", "end"),
    ("open", "close"),
    ("start", "stop"),
    ("first", "last"),
    ("from", "until"),
    ("enter", "leave"),
    ("init", "done"),
    ("head", "tail"),
)
THINGS = (
    "part",
    "block",
    "entry",
    "section",
    "speech",
    "item",
    "voice",
    "line",
    "talk",
    "piece",
    "post",
    "segment",
    "note",
    "record",
    "msg",
    "unit",
)
#: Text between edge and thing.
LINKS = ("_", "-", "_of_", " ", "", ".", "_the_", ":")
#: Text before every role's name, as if the header named a product.
PHRASES = (
    "Session 7 ",
    "Chat One ",
    "Alpha Line ",
    "Studio ",
    "Model B ",
    "Desk 12 ",
    "Help Line ",
    "Board ",
    "North Side ",
    "Room 4 ",
    "Beta Talk ",
    "Office ",
)
TAG_ROLES = (
    *ROLES,
    ("system", "user", "bot"),
    ("system", "human", "ai"),
    ("setup", "user", "expert"),
    ("notes", "me", "you"),
)
TAG_LEADS = ("\n", " ", "", "\n\n")
TAG_GAPS = ("", "\n", "\n\n", " ")


def half(values: Sequence[T], split: Split | None) -> Sequence[T]:
    """One half of the values, or all of them."""
    return values if split is None else values[0::2] if split == "train" else values[1::2]
