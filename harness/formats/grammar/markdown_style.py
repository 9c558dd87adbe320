"""Pseudo-markdown formats: headers of a role's name between delimiters.

After FormatSpread (Sclar et al. 2024, arXiv 2310.11324): a format is a choice of role names, casing,
delimiters, what stands between header and words, what stands between turns, and a closing mark. Its
contextual rules hold here as well: the parts of one format agree with each other (one casing, one pair of
delimiters, a closing mark only where a tag opens), and a header can always be told from the words.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from harness.formats.grammar.symbols import (
    CASINGS,
    DELIMITERS,
    GAPS,
    LEADS,
    ROLES,
    Split,
    half,
    toml,
)
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
        """A name that depends on the choices alone."""
        return "grammar-" + hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:10]

    def header(self, role: int) -> str:
        """The header of a role: 0 system, 1 user, 2 assistant."""
        return self.opens + self._cased(role) + self.closes

    def end(self, role: int) -> str:
        """The closing mark of a role's turn, with the newline before it, or ""."""
        return "\n" + self.closing.replace("{}", self._cased(role), 1) if self.closing else ""

    def source(self, family: str) -> str:
        """The format's file."""
        return "\n".join(_lines(self, family)) + "\n"

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
    """The contextual rules: a header without a closing delimiter ends its line, and a closing mark is no other part's text."""
    if not spec.closes and "\n" not in spec.lead:
        return False
    return not spec.closing or spec.closing.strip() not in spec.gap


def _lines(spec: MarkdownSpec, family: str) -> Iterator[str]:
    system, user, assistant = map(spec.header, range(3))
    glue = spec.lead[len(spec.lead.rstrip(" ")) :]
    asked = assistant + spec.lead[: len(spec.lead) - len(glue)]
    words = "message['content']"
    stops = [spec.end(2)] if spec.closing else [f"\n{user}", f"\n{assistant}"]
    yield "{#---"
    yield f"family = {toml(family)}"
    yield f"system = {toml('own' if spec.headed_system else 'prefix')}"
    yield f"stops = [{', '.join(map(toml, stops))}]"
    yield 'eos = "after every assistant turn"'
    yield 'origin = "ours: drawn from the grammar of formats"'
    yield ""
    yield "[roles]"
    if spec.headed_system:
        yield f"system = {toml(system)}"
    yield f"user = {toml(user)}"
    yield f"assistant = {toml(assistant)}"
    yield "---#}"
    yield "{{- bos_token }}"
    yield "{%- for message in messages %}"
    yield "    {%- if message['role'] == 'system' %}"
    yield f"        {{{{- {joined(system + spec.lead if spec.headed_system else '', words, (spec.end(0) if spec.headed_system else '') + spec.gap)} }}}}"
    yield "    {%- elif message['role'] == 'user' %}"
    yield f"        {{{{- {joined(user + spec.lead, words, spec.end(1) + spec.gap)} }}}}"
    yield "    {%- else %}"
    yield f"        {{{{- {jinja_literal(asked)} }}}}"
    yield "        {%- generation %}"
    yield f"            {{{{- {joined(glue, words, spec.end(2))} + eos_token }}}}"
    yield "        {%- endgeneration %}"
    yield f"        {{{{- {jinja_literal(spec.gap)} }}}}"
    yield "    {%- endif %}"
    yield "{%- endfor %}"
    yield "{%- if add_generation_prompt %}"
    yield f"    {{{{- {jinja_literal(asked)} }}}}"
    yield "{%- endif %}"
