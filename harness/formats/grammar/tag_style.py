"""Formats of tags: control strings like those of chat models, with words that no model uses.

Most models mark turns with strings of their own, ``<|im_start|>`` or ``[INST]``. Four shapes cover
the ways in which the shipped formats do so: a role's name inside a mark (not alone: ``<|user|>`` is
a real one), a name between two marks, a name behind a phrase, and a question wrapped in marks with
no names at all. A mark is made of brackets, an edge ("begin", "end"), a link and a thing ("part").
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import astuple, dataclass

from harness.formats.frontmatter import write_front_matter
from harness.formats.grammar.symbols import (
    BRACKETS,
    CASINGS,
    EDGES,
    LINKS,
    PHRASES,
    TAG_GAPS,
    TAG_LEADS,
    TAG_ROLES,
    THINGS,
    Split,
    half,
)
from harness.formats.turns import BOS, EOS, Turns
from harness.formats.turns_template import template_of

SHAPES = ("inside", "between", "behind", "wrapped")


@dataclass(frozen=True, slots=True)
class TagSpec:
    """The choices that make one format."""

    shape: str
    roles: tuple[str, str, str]
    brackets: tuple[str, str]
    edges: tuple[str, str]
    link: str
    thing: str
    casing: str
    phrase: str
    lead: str
    gap: str
    marked_end: bool
    """Whether a mark ends each turn, or EOS ends the answers."""
    eos_too: bool
    headed_system: bool

    @property
    def id(self) -> str:
        """A name made from the pieces alone, since two choices may make the same format."""
        return (
            "grammar-tags-" + hashlib.sha256(repr(astuple(self.turns())).encode()).hexdigest()[:10]
        )

    def header(self, role: int) -> str:
        """The header of a role: 0 system, 1 user, 2 assistant."""
        name = self.roles[role]
        if self.shape == "inside":
            return self._mark(self.thing + self.link + name)
        if self.shape == "between":
            closes = "" if "\n" in self.lead and not self.marked_end else self._edge(1, "name")
            return self._edge(0) + name + closes
        return f"{self.phrase}{name.title()}:"

    def turns(self) -> Turns:
        """The pieces of the format."""
        return self._wrapped() if self.shape == "wrapped" else self._headed()

    def source(self, family: str) -> str:
        """The format's file."""
        turns = self.turns()
        return _front_matter(self, turns, family) + template_of(turns)

    def _headed(self) -> Turns:
        system, user, assistant = map(self.header, range(3))
        mark = self._edge(1) if self.marked_end else ""
        stop = mark + EOS * (self.eos_too or not mark)
        close = mark + (self.gap or "\n" * (not mark))
        lead = self.lead if self.shape != "behind" else " "
        opened = lead.rstrip(" ")
        return Turns(
            begin=BOS + user + lead,
            user_open=user + lead,
            user_close=close,
            assistant_open=assistant + opened,
            answer_glue=lead[len(opened) :],
            stop=stop,
            answer_close=self.gap,
            system_open=BOS + (system + lead if self.headed_system else ""),
            system_close=(close if self.headed_system else "\n\n") + user + lead,
            stops=(mark or f"{self.gap.strip(' ')}{user}",),
        )

    def _wrapped(self) -> Turns:
        opens, closes = self._edge(0), self._edge(1)
        space = self.lead.replace("\n\n", "\n")
        glue = space if space == " " else ""
        return Turns(
            begin=BOS + opens + space,
            user_open=opens + space,
            user_close="",
            assistant_open=space + closes + (space if not glue else ""),
            answer_glue=glue,
            stop=EOS,
            answer_close=self.gap,
            system_open=BOS,
            system_close="\n\n" + opens + space,
            stops=(opens, closes),
        )

    def _edge(self, which: int, of: str = "") -> str:
        return self._mark(self.edges[which] + self.link + (of or self.thing))

    def _mark(self, text: str) -> str:
        opens, closes = self.brackets
        return opens + str(getattr(text, self.casing)()) + closes


def draw_tags(draw: random.Random, split: Split | None) -> TagSpec:
    """One format, from one half of the constants or from all of them."""
    return TagSpec(
        shape=draw.choice(SHAPES),
        roles=draw.choice(half(TAG_ROLES, split)),
        brackets=draw.choice(half(BRACKETS, split)),
        edges=draw.choice(half(EDGES, split)),
        link=draw.choice(half(LINKS, split)),
        thing=draw.choice(half(THINGS, split)),
        casing=draw.choice(CASINGS[::2]),
        phrase=draw.choice(half(PHRASES, split)),
        lead=draw.choice(TAG_LEADS),
        gap=draw.choice(TAG_GAPS),
        marked_end=draw.random() < 0.7,
        eos_too=draw.random() < 0.3,
        headed_system=draw.random() < 0.6,
    )


def _front_matter(spec: TagSpec, turns: Turns, family: str) -> str:
    eos = "after every assistant turn" if EOS in turns.stop else "none; the mark ends the answer"
    facts = {
        "family": family,
        "system": turns.system,
        "stops": turns.stops,
        "eos": eos,
        "origin": "ours: drawn from the grammar of formats, tags",
    }
    roles = {"system": spec.header(0)} if turns.system == "own" else {}
    roles |= {"user": turns.user_open.strip(), "assistant": turns.assistant_open.strip()}
    return write_front_matter(facts, roles)
