"""Pseudo-markdown formats: headers of a role's name between delimiters.

After FormatSpread (Sclar et al. 2024, arXiv 2310.11324): a format is a choice of role names,
casing, delimiters, a closing mark, and the text between header and words and between turns. Its
contextual rules hold here as well: the parts of one format agree with each other (one casing, one
pair of delimiters, a closing mark only where a tag opens), and a header differs from the words.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import astuple, dataclass

from harness.formats.frontmatter import write_front_matter
from harness.formats.grammar.symbols import CASINGS, DELIMITERS, GAPS, LEADS, ROLES, Split, half
from harness.formats.turns_template import jinja_literal, joined


@dataclass(frozen=True, slots=True)
class MarkdownSpec:
    """The choices that make one format."""

    roles: tuple[str, str, str]
    casing: str
    opens: str
    closes: str
    lead: str
    gap: str
    closing: str
    headed_system: bool

    @property
    def id(self) -> str:
        """A name made from the choices alone."""
        return "grammar-" + hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:10]

    def header(self, role: int) -> str:
        """The header of a role: 0 system, 1 user, 2 assistant."""
        return self.opens + self._cased(role) + self.closes

    def end(self, role: int) -> str:
        """The closing mark of a role's turn, with the newline before it, or ""."""
        return "\n" + self.closing.replace("{}", self._cased(role), 1) if self.closing else ""

    def source(self, family: str) -> str:
        """The format's file."""
        return _front_matter(self, family) + _template(self)

    def _cased(self, role: int) -> str:
        return str(getattr(self.roles[role], self.casing)())


def draw_markdown(draw: random.Random, split: Split | None) -> MarkdownSpec:
    """One format, from one half of the constants or from all of them."""
    while True:
        opens, closes, closings = draw.choice(half(DELIMITERS, split))
        spec = MarkdownSpec(
            roles=draw.choice(half(ROLES, split)),
            casing=draw.choice(CASINGS),
            opens=opens,
            closes=closes,
            lead=draw.choice(half(LEADS, split)),
            gap=draw.choice(half(GAPS, split)),
            closing=draw.choice(("", *closings)),
            headed_system=draw.random() < 0.5,
        )
        if _agrees(spec):
            return spec


def _agrees(spec: MarkdownSpec) -> bool:
    """The contextual rules.

    A header without a closing delimiter ends its line, and a closing mark is not part of a gap.
    """
    if not spec.closes and "\n" not in spec.lead:
        return False
    return not spec.closing or spec.closing.strip() not in spec.gap


def _front_matter(spec: MarkdownSpec, family: str) -> str:
    system, user, assistant = map(spec.header, range(3))
    facts = {
        "family": family,
        "system": "own" if spec.headed_system else "prefix",
        "stops": [spec.end(2)] if spec.closing else [f"\n{user}", f"\n{assistant}"],
        "eos": "after every assistant turn",
        "origin": "ours: drawn from the grammar of formats",
    }
    roles = {"system": system} if spec.headed_system else {}
    return write_front_matter(facts, {**roles, "user": user, "assistant": assistant})


def _template(spec: MarkdownSpec) -> str:
    system, user, assistant = map(spec.header, range(3))
    lead, gap = spec.lead, spec.gap
    glue = lead[len(lead.rstrip(" ")) :]
    asked = jinja_literal(assistant + lead[: len(lead) - len(glue)])
    words = "message['content']"
    if spec.headed_system:
        system_turn = joined(system + lead, words, spec.end(0) + gap)
    else:
        system_turn = joined("", words, gap)
    return f"""\
{{{{- bos_token }}}}
{{%- for message in messages %}}
    {{%- if message['role'] == 'system' %}}
        {{{{- {system_turn} }}}}
    {{%- elif message['role'] == 'user' %}}
        {{{{- {joined(user + lead, words, spec.end(1) + gap)} }}}}
    {{%- else %}}
        {{{{- {asked} }}}}
        {{%- generation %}}
            {{{{- {joined(glue, words, spec.end(2))} + eos_token }}}}
        {{%- endgeneration %}}
        {{{{- {jinja_literal(gap)} }}}}
    {{%- endif %}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}
    {{{{- {asked} }}}}
{{%- endif %}}
"""
