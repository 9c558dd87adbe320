"""A recipe in the making: which of the other trainer's keys became which of our settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.training.config.other_trainers.reasons import reason_for


@dataclass(frozen=True, slots=True)
class NotKept:
    """A key that has no counterpart here, its value, and why."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True, slots=True)
class OtherRecipe:
    """What was read of another trainer's configuration. Every key of it is in one of the two.

    ``table`` has our settings, section by section. ``kept``: their key → our setting.
    ``differs``: a kept key → what is not the same here. ``defaults``: our setting → the value that
    the trainer takes where its configuration names none. ``notes``: what follows from a missing
    key.
    """

    trainer: str
    path: Path
    table: dict[str, Any]
    kept: dict[str, str]
    not_kept: tuple[NotKept, ...]
    differs: dict[str, str]
    defaults: dict[str, Any]
    notes: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """What the user should know, a line each: differences and all that is not kept."""
        yield f"{self.path}: read as a configuration of {self.trainer}, {len(self.kept)} keys kept"
        if self.defaults:
            taken = ", ".join(f"{place} = {_shown(v)}" for place, v in self.defaults.items())
            yield f"not set there, {self.trainer}'s defaults: {taken}"
        yield from self.notes
        for key, difference in self.differs.items():
            yield f"kept, but different: {key}: {difference}"
        reasons: dict[str, list[str]] = {}
        for item in self.not_kept:
            reasons.setdefault(item.reason, []).append(f"{item.key} = {_shown(item.value)}")
        for reason, settings in reasons.items():
            yield f"not kept: {', '.join(settings)}: {reason}"

    def as_dict(self) -> dict[str, Any]:
        """As ``--dry-run --json`` has it."""
        return {
            "trainer": self.trainer,
            "kept": self.kept,
            "differs": self.differs,
            "defaults": self.defaults,
            "notes": list(self.notes),
            "not_kept": [
                {"key": item.key, "value": item.value, "reason": item.reason}
                for item in self.not_kept
            ],
        }


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


@dataclass(frozen=True, slots=True)
class Refused:
    """What a conversion returns instead of a value: why the key cannot be kept."""

    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What a conversion returns for a value that is kept with a difference."""

    value: Any
    difference: str


Convert = Callable[[Any], Any]


@dataclass
class Draft:
    """Takes keys out of a configuration one by one, so that none is forgotten.

    A key without a value is a key that is not set.
    """

    path: Path
    left: dict[str, Any]
    table: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    not_kept: list[NotKept] = field(default_factory=list)
    differs: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, given: Mapping[str, Any]) -> Draft:
        """A draft of a configuration's keys."""
        return cls(path, {str(key): value for key, value in given.items() if value is not None})

    def take(self, key: str, place: str, convert: Convert | None = None) -> None:
        """Keep a key, if it is there, as our setting ``section.key``."""
        if key not in self.left:
            return
        given = self.left[key]
        value = convert(given) if convert else given
        if isinstance(value, Refused):
            self.drop(key, value.reason)
            return
        if self.has(place):
            taken = next((name for name, kept in self.kept.items() if kept == place), place)
            self.drop(key, f"{taken} is kept in its place")
            return
        if isinstance(value, Changed):
            self.differs[key] = value.difference
            value = value.value
        self.put(place, value)
        self.keep(key, place)

    def keep(self, key: str, place: str, difference: str = "") -> None:
        """Mark a key as kept, whose value was put already."""
        del self.left[key]
        self.kept[key] = place
        if difference:
            self.differs[key] = difference

    def drop(self, key: str, reason: str) -> None:
        """Mark a key, if it is there, as not kept."""
        if key in self.left:
            self.not_kept.append(NotKept(key, self.left.pop(key), reason))

    def put(self, place: str, value: Any) -> None:
        """Set ``section.key``, or a key at the top."""
        section, _, key = place.rpartition(".")
        (self.table.setdefault(section, {}) if section else self.table)[key] = value

    def get(self, place: str) -> Any:
        """What ``section.key`` is set to, or None."""
        section, _, key = place.rpartition(".")
        return (self.table.get(section, {}) if section else self.table).get(key)

    def has(self, place: str) -> bool:
        """Whether ``section.key`` is set."""
        return self.get(place) is not None

    def default(self, **places: Any) -> None:
        """Take the trainer's own defaults where nothing is set: ``section__key=value``."""
        for name, value in places.items():
            place = name.replace("__", ".")
            if not self.has(place):
                self.put(place, value)
                self.defaults[place] = value

    def finish(self, trainer: str) -> OtherRecipe:
        """The recipe. Whatever is left is not kept, with the reason for its kind of key."""
        for key in list(self.left):
            self.drop(key, reason_for(key))
        return OtherRecipe(
            trainer,
            self.path,
            self.table,
            self.kept,
            tuple(self.not_kept),
            self.differs,
            self.defaults,
            tuple(self.notes),
        )
