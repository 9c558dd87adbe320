"""A command's options as a dataclass: parsed by tyro, help from the docstrings under the fields."""

from __future__ import annotations

import contextlib
import difflib
import io
import math
import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import fields, is_dataclass, make_dataclass, replace
from functools import cache
from inspect import cleandoc
from pathlib import Path
from types import GenericAlias, NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from harness.cli.main import program
from harness.docstrings import field_docstrings
from harness.errors import HarnessError
from harness.terminal import raw_streams

T = TypeVar("T")
#: The flags that the user wrote, without their values: a mistake is named as the user spelled it.
_GIVEN: ContextVar[frozenset[str]] = ContextVar("given", default=frozenset())
QUIET_HELP = "Print nothing but errors, and what --json prints or a text that was asked for."
_NEEDS_VALUE = "needs a value"
_PLACEHOLDERS = {str: "TEXT", int: "INT", float: "FLOAT"}
#: Options by name → what to write there, where the type does not say it.
_NAMED = {
    **dict.fromkeys(("adapter", "formats_dir", "save_index", "sweep"), "FOLDER"),
    **dict.fromkeys(("formats", "format_id", "native"), "ID"),
    **dict.fromkeys(("against", "cases", "context", "controls", "data", "metrics"), "FILE"),
    **dict.fromkeys(("html", "report", "thresholds", "train"), "FILE"),
    **dict.fromkeys(("base", "model"), "MODEL"),
    **dict.fromkeys(("expect", "expect_language"), "CODE"),
    **dict.fromkeys(("metric", "find_metric"), "METRIC"),
    "api_key_env": "VARIABLE",
    "budget": "N|N%",
    "endpoint": "URL",
    "engine_option": "KEY=VALUE",
    "grid": "NAME=VALUE,VALUE",
    "out": "PATH",
}
FormatId = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FORMAT")]
RunFolder = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Files = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FILE ...]")]
#: How tyro reads types, where we read them differently.
_TYPES = ConstructorRegistry()


def parse(
    kind: type[T],
    args: list[str],
    command: str,
    description: str | None,
    default: T | None = None,
    prog: str | None = None,
) -> T:
    """Parse ``args`` into ``kind``. ``prog`` is how the command is called, if not ``harness …``.

    Prints help and exits with 0 when asked for it. Raises HarnessError for a mistake.
    """
    for each in _dataclasses(kind, default):
        _document(each)
        _simplify(each)
    shown = kind if prog or default is not None else _with_quiet(kind)
    configured = tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)(shown)
    given: dict[str, Any] = {} if default is None else {"default": default}
    _refuse_empty(
        _dataclasses(kind, default), args, f"see {prog or f'{program()} {command}'} --help"
    )
    _GIVEN.set(frozenset(arg.split("=")[0].replace("_", "-") for arg in args if arg[:2] == "--"))
    prog, errors = prog or f"{program()} {command}", io.StringIO()
    try:
        with raw_streams(), contextlib.redirect_stderr(errors), _TYPES:
            parsed: T = tyro.cli(
                configured, args=args, prog=prog, description=cleandoc(description or ""), **given
            )
    except SystemExit as ended:
        if not ended.code:
            raise
        mistake = _unknown_flag(configured, args, given) or _mistake(errors.getvalue())
        raise HarnessError(mistake, hint=f"see {prog} --help") from None
    return parsed


@_TYPES.primitive_rule
def _several_words(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """An option that takes several words needs at least one: tyro also accepts none."""
    item, *rest = get_args(info.type) or (None,)
    if info.type_origin is not tuple or rest != [...]:
        return None
    if tyro.conf.UseAppendAction in info.markers:  # each occurrence is one word
        return None
    several: Any = GenericAlias(list, (item,))
    words = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(several, info.markers))
    if not isinstance(words, PrimitiveConstructorSpec):
        return None

    def read(given: list[str]) -> tuple[Any, ...]:
        if not given:
            raise ValueError(_NEEDS_VALUE)
        return tuple(words.instance_from_str(given))

    return replace(
        words,
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple) and words.is_instance([*value]),
    )


def _with_quiet(kind: type[T]) -> type[T]:
    """The options with --quiet, for the help: the dispatcher takes it out of the arguments."""
    mark = tyro.conf.arg(help=QUIET_HELP, aliases=["-q"], help_behavior_hint="")
    field = ("quiet", Annotated[bool, mark], False)
    namespace = {"__doc__": kind.__doc__, "__module__": kind.__module__}
    return make_dataclass(kind.__name__, [field], bases=(kind,), frozen=True, namespace=namespace)


def _unknown_flag(kind: Any, args: list[str], given: dict[str, Any]) -> str:
    """A mistyped flag, which tyro may take for the value of a positional argument.

    The positional argument itself may be written as a flag: ``--model ./my-model``.
    """
    shown = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(shown):
        tyro.cli(kind, args=["--help"], **given)
    known = set(re.findall(r"--([a-z][\w-]*)", shown.getvalue()))
    usage = shown.getvalue().partition("\n\n")[0]
    flags = (arg[2:].split("=")[0].replace("_", "-") for arg in args if re.match(r"--[a-z]", arg))
    for flag in flags:
        if flag not in known:
            close = difflib.get_close_matches(flag, known, n=1)
            hint = f": did you mean --{close[0]}?" if close else ""
            if re.search(rf"\b{re.escape(flag.upper())}\b", usage):
                hint = f": {flag.upper()} is written without a name"
            return f"unknown option --{flag}{hint}"
    return ""


def _refuse_empty(kinds: Sequence[type], args: list[str], hint: str) -> None:
    """Refuse ``--out "$FOLDER"`` with an unset variable: it would name the current folder.

    Where an option's default is empty, that is the same as leaving it out. Raises HarnessError.
    """
    for before, arg in zip(["", *args], args, strict=False):
        if arg and not re.fullmatch(r"--[\w-]+=", arg):
            continue
        named = arg.rstrip("=") or (before if before.startswith("--") and "=" not in before else "")
        flag = named.replace("_", "-")
        if not flag:
            raise HarnessError("an argument is empty: is a variable not set?", hint=hint)
        may_be_empty = [(k, f.name) for k in kinds for f in fields(k) if f.default == ""]
        if not any(flag in flag_names(kind, name) for kind, name in may_be_empty):
            raise HarnessError(f"{flag} {_NEEDS_VALUE}", hint=hint)


def at_least(options: Any, least: float, *names: str) -> None:
    """Refuse values below ``least``, NaN and infinity. Raises HarnessError naming the flag."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            flag = _spelled(flag_names(type(options), name))
            raise HarnessError(f"invalid {flag} {value}: expected at least {least}")


def flag_names(kind: type, field: str) -> list[str]:
    """The names of an option: that of its field, then the others."""
    marks = get_args(get_type_hints(kind, include_extras=True)[field])
    others = [alias for mark in marks for alias in getattr(mark, "aliases", None) or ()]
    return [f"--{field.replace('_', '-')}", *others]


def _spelled(names: Sequence[str]) -> str:
    """Which of an option's names the user wrote; the first where that is unknown."""
    return next((name for name in names if name in _GIVEN.get()), names[0])


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise HarnessError when a file to write is there already, unless it may be replaced."""
    if path.is_dir():
        raise HarnessError("a folder, where a file is expected", where=str(path))
    if path.exists() and not force:
        raise HarnessError("the file exists already", where=str(path), hint="--force replaces it")


def split_commas(values: tuple[str, ...]) -> tuple[str, ...]:
    """``a,b c`` → ``a``, ``b``, ``c``: lists may be given with commas or as several words."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def _dataclasses(kind: type, default: Any) -> list[type]:
    """The options, the dataclasses that they inherit from, and the sections in them."""
    sections = [getattr(default, f.name) for f in fields(kind)] if default is not None else []
    nested = [type(value) for value in sections if is_dataclass(value)]
    return [base for base in kind.__mro__ if is_dataclass(base)] + nested


@cache
def _document(kind: type) -> None:
    """Join the lines of each field's docstring: tyro would keep its line breaks."""
    lines = (f":param {name}: {text}" for name, text in field_docstrings(kind).items())
    kind.__doc__ = "\n".join([kind.__doc__ or "", "", *lines])


@cache
def _simplify(kind: type) -> None:
    """Show a short placeholder for each value, and no default that says nothing."""
    hints = get_type_hints(kind, include_extras=True)
    for f in fields(kind):
        if f.name not in vars(kind)["__annotations__"]:
            continue
        hint = hints[f.name]
        value, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        repeatable = tyro.conf.UseAppendAction in marks
        types = (value, *get_args(value))
        placeholder = next((_PLACEHOLDERS[t] for t in types if t in _PLACEHOLDERS), None)
        if placeholder == "TEXT":
            placeholder = _NAMED.get(f.name, placeholder)
        choices = next((get_args(t) for t in get_args(value) if get_origin(t) is Literal), None)
        if choices and NoneType in get_args(value):
            placeholder = f"{{{','.join(choices)}}}"  # None is what leaving it out means
        if placeholder and get_origin(value) is tuple and not repeatable:
            placeholder += " ..."
        hint_text = None
        if f.default is None or f.default is False or f.default in ((), ""):
            hint_text = "(repeatable)" if repeatable else ""
        shown = tyro.conf.arg(metavar=placeholder, help_behavior_hint=hint_text)
        kind.__annotations__[f.name] = Annotated[(value, shown, *marks)]


def _mistake(text: str) -> str:
    """tyro's box of a mistake as one sentence."""
    rule = re.compile("[─-]{4}")
    lines = text.splitlines()
    if len(lines) > 1 and rule.search(lines[1]):  # a terminal without box characters
        del lines[0]
    stripped = "\n".join("" if rule.search(line) else line.strip("│| ") for line in lines)
    parts = re.split(r"\n{2,}", stripped.strip())
    body, others = (" ".join(part.split()) for part in (parts[0], " ".join(parts[1:])))
    if found := re.match(r"Error parsing (\S+):.*['\"](.*?)['\"]\]?\.?$", body):
        flag = _spelled(found[1].split("/")[::-1])
        _, _, takes = others.partition(f"{flag} ")
        kind = re.search(r"INT|FLOAT", takes.split(" ", 1)[0] if takes[:1] != "[" else takes)
        expected = {"INT": ": expected a whole number", "FLOAT": ": expected a number"}
        return f"invalid {flag} {found[2]!r}" + (expected[kind[0]] if kind else "")
    if found := re.match(
        r"invalid choice (.*) for argument '(.*)'. Expected one of \((.*)\)", body
    ):
        choices = found[3].split(", ")
        if "'None'" in choices:  # of an optional value, which tyro puts in no order
            choices = sorted({*choices} - {"'None'"})
        return f"invalid {found[2]} {found[1]}: expected one of {', '.join(choices)}"
    if found := re.match(r"Missing from .*?: (\S+)", body):
        return f"missing {found[1]}"
    if found := re.match(r"Missing value for argument '(.*)'", body) or re.match(
        rf"Error parsing (\S+):.* ({_NEEDS_VALUE}|from \[\])", body
    ):
        return f"{_spelled(found[1].split('/')[::-1])} {_NEEDS_VALUE}"
    if found := re.match(r"Unrecognized options: (.*)", body):
        return f"unexpected argument {found[1].split(', ')[0]!r}"
    return body


def format_id_of(path: Path) -> str:
    """An id for the format of a file or a folder: small letters, digits, dots and dashes."""
    name = (
        path.resolve().parent.name
        if path.name in ("tokenizer_config.json", "chat_template.jinja")
        else path.stem
        if path.is_file()
        else path.resolve().name
    )
    return (
        "".join(
            letter if letter.isalnum() or letter in "._-" else "-" for letter in name.lower()
        ).strip("-._")
        or "imported"
    )
