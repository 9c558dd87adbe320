"""The results of the checks of a shipped artefact.

A check that was not made says why. It is never counted as equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

State = Literal["equal", "differs", "not checked"]
_STATES = get_args(State)
_KIND = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what was trained and what a runtime does.

    ``check`` found it, and ``kind`` is a stable name such as ``double-bos``. ``where`` is the
    place: a file and its key, or a conversation. ``message`` says what differs, ``remedy`` what to
    do.
    """

    check: str
    kind: str
    where: str
    message: str
    remedy: str

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise ValueError(f"invalid kind {self.kind!r}: expected words joined by hyphens")
        if not (self.check and self.message and self.remedy):
            raise ValueError("a finding needs a check, a message and a remedy")

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message} [{self.kind}] — {self.remedy}"


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of one check in one runtime.

    ``state`` is "equal", "differs" (with findings) or "not checked" (with its ``reason``). A
    ``reason`` with "equal" or "differs" says how it was checked, or what was left out.
    """

    check: str
    runtime: str
    state: State
    reason: str = ""
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.state not in _STATES:
            raise ValueError(f"unknown state {self.state!r} (one of {', '.join(_STATES)})")
        if (self.state == "differs") != bool(self.findings):
            raise ValueError("a check differs if, and only if, it has findings")
        if self.state == "not checked" and not self.reason:
            raise ValueError("a check that was not made needs its reason")

    @classmethod
    def of(cls, check: str, runtime: str, findings: Iterable[Finding], reason: str = "") -> Checked:
        """The result of a check that was made: "differs" if it found anything, else "equal"."""
        found = tuple(findings)
        return cls(check, runtime, "differs" if found else "equal", reason, found)

    @classmethod
    def not_checked(cls, check: str, runtime: str, reason: str) -> Checked:
        """The result of a check that could not be made."""
        return cls(check, runtime, "not checked", reason)

    def to_json(self) -> dict[str, Any]:
        """A table of texts and lists, for ``json.dumps``."""
        table = asdict(self)
        table["findings"] = [asdict(finding) for finding in self.findings]
        return table

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Checked:
        """The inverse of ``to_json``. Raises TypeError or ValueError for another table."""
        findings = tuple(Finding(**row) for row in table["findings"])
        return cls(**{**table, "findings": findings})
