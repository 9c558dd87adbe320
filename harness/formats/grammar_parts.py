"""What the grammar of formats draws from. Every list is cut in two by position: even places are the training half, odd places the test half."""

from __future__ import annotations

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
#: What opens and closes a header, and what may close a turn that such a header opens ({} is the role).
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
