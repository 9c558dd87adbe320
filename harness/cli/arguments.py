"""A command's options as a dataclass, parsed by tyro: help from the docstrings under the fields."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def parse(
    kind: type[T], args: list[str], command: str, description: str, default: T | None = None
) -> T:
    """Parse ``args`` into ``kind``. Prints help or a mistake and exits as tyro does (0 and 2)."""
    import tyro

    configured = tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)(kind)
    given = {} if default is None else {"default": default}
    parsed: T = tyro.cli(
        configured, args=args, prog=f"harness {command}", description=description, **given
    )  # type: ignore[call-overload]  # the default is left out, not None
    return parsed


def comma(values: tuple[str, ...]) -> tuple[str, ...]:
    """``a,b c`` → ``a``, ``b``, ``c``: lists may be given with commas or as several words."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())
