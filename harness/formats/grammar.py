"""Procedural pseudo-markdown formats: a seed gives any number of formats that nobody has trained on.

After FormatSpread (Sclar et al. 2024, arXiv 2310.11324): a format is a choice of role names, casing,
delimiters, what stands between header and words, what stands between turns, and a closing mark. Its
contextual rules hold here as well: the parts of one format agree with each other (one casing, one pair of
delimiters, a closing mark only where a tag opens), and a header can always be told from the words.

The constants fall into two halves. A *compositional* split draws its training formats from one half and its test
formats from the other, so that no delimiter or role name of a test format was ever trained; a *random* split
shares the constants and keeps only the combinations apart.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal, TypeVar

from harness.errors import HarnessError
from harness.formats.frontmatter import parse_format
from harness.formats.grammar_parts import CASINGS, DELIMITERS, GAPS, LEADS, ROLES
from harness.formats.turns_template import jinja_literal, joined
from harness.records import Format

Split = Literal["train", "test"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spec:
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

    def _cased(self, role: int) -> str:
        return str(getattr(self.roles[role], self.casing)())


def sample(n: int, seed: int, split: Split | None = None, *, compositional: bool = True) -> list[Format]:
    """``n`` different formats, the same for the same arguments; a greater ``n`` only adds to them.

    ``split`` keeps to the training or the test side. Raises HarnessError when the grammar has no ``n`` formats.
    """
    return [format for format, _ in sample_sources(n, seed, split, compositional=compositional)]


def sample_sources(n: int, seed: int, split: Split | None = None, *, compositional: bool = True) -> list[tuple[Format, str]]:
    """As sample(), each format with the text of its file."""
    family = f"grammar-{split}" if split else "grammar"
    found: dict[str, tuple[Format, str]] = {}
    draw = random.Random(f"{seed}/{split}/{compositional}")
    for _ in range(100 * n + 1000):
        if len(found) == n:
            return list(found.values())
        spec = _draw(draw, split if compositional else None)
        if spec.id not in found and (compositional or split in (None, side_of(spec))):
            found[spec.id] = to_format(spec, family), source(spec, family)
    raise HarnessError(f"the grammar gave only {len(found)} of {n} formats", hint="ask for fewer")


def parse_request(name: str) -> list[Format]:
    """The formats of ``grammar:N[:seed=S][:split=train|test][:random]``, as settings and ``--formats`` name them."""
    head, *parts = name.split(":")
    hint = "write grammar:200:seed=7:split=train"
    if head != "grammar" or not parts or not parts[0].isdigit() or not int(parts[0]):
        raise HarnessError(f"{name!r} does not say how many formats", hint=hint)
    facts = dict(part.partition("=")[::2] for part in parts[1:])
    unknown = sorted(set(facts) - {"seed", "split", "random"})
    split = facts.get("split")
    if unknown or not facts.get("seed", "0").isdigit() or split not in (None, "train", "test"):
        raise HarnessError(f"{name!r} is not understood" + (f": {unknown[0]}" if unknown else ""), hint=hint)
    return sample(int(parts[0]), int(facts.get("seed", "0")), split, compositional="random" not in facts)  # type: ignore[arg-type]


def side_of(spec: Spec) -> Split:
    """The side of a random split that a combination falls on: one in five is for testing."""
    return "test" if int(spec.id[-6:], 16) % 5 == 0 else "train"


def to_format(spec: Spec, family: str = "grammar") -> Format:
    """The choices as a format like any other."""
    return parse_format(source(spec, family), Path(f"{spec.id}.jinja"))


def _draw(draw: random.Random, split: Split | None) -> Spec:
    while True:
        opens, closes, closings = draw.choice(_side(DELIMITERS, split))
        spec = Spec(
            roles=draw.choice(_side(ROLES, split)),
            casing=draw.choice(CASINGS),
            opens=opens,
            closes=closes,
            lead=draw.choice(_side(LEADS, split)),
            gap=draw.choice(_side(GAPS, split)),
            closing=draw.choice(("", *closings)),
            headed_system=draw.random() < 0.5,
        )
        if _agrees(spec):
            return spec


def _side(values: Sequence[T], split: Split | None) -> Sequence[T]:
    return values if split is None else values[0::2] if split == "train" else values[1::2]


def _agrees(spec: Spec) -> bool:
    """The contextual rules: a header without a closing delimiter ends its line, and a closing mark is no other part's text."""
    if not spec.closes and "\n" not in spec.lead:
        return False
    return not spec.closing or spec.closing.strip() not in spec.gap


def source(spec: Spec, family: str) -> str:
    """The format's file."""
    return "\n".join(_lines(spec, family)) + "\n"


def _lines(spec: Spec, family: str) -> Iterator[str]:
    system, user, assistant = map(spec.header, range(3))
    glue = spec.lead[len(spec.lead.rstrip(" ")) :]
    asked = assistant + spec.lead[: len(spec.lead) - len(glue)]
    words = "message['content']"
    stops = [spec.end(2)] if spec.closing else [f"\n{user}", f"\n{assistant}"]
    yield "{#---"
    yield f"family = {_toml(family)}"
    yield f"system = {_toml('own' if spec.headed_system else 'prefix')}"
    yield f"stops = [{', '.join(map(_toml, stops))}]"
    yield 'eos = "after every assistant turn"'
    yield 'origin = "ours: drawn from the grammar of formats"'
    yield ""
    yield "[roles]"
    if spec.headed_system:
        yield f"system = {_toml(system)}"
    yield f"user = {_toml(user)}"
    yield f"assistant = {_toml(assistant)}"
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


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
