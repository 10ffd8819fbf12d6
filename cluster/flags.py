"""Command-line flags of a settings model: name, value, default and help, read off its fields.

Knows settings models and how a command line is written; no command and no typer. A setting becomes
a flag where one word can give it: not inside a group that is always written whole, and not a
mapping; `--set key=value` reaches those.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from market.settings import Path as Setting
from market.settings import Settings, group_of, group_of_path

_WORDS: dict[Any, str] = {
    int: "int", float: "number", str: "text", Path: "path", date: "date", bool: "bool",
}  # fmt: skip
_LONGEST = 36
"""Characters of choices shown in place of a value; longer lists go to the help."""


@dataclass(frozen=True)
class FlagName:
    """In a field's annotation: its flag has another name than the field."""

    name: str


@dataclass(frozen=True)
class Flag:
    """One flag of a command."""

    setting: Setting
    name: str
    """With its dashes."""
    off: str | None
    """The flag that says no, of a switch."""
    value: str
    """What is to be given, in a word or as choices."""
    choices: tuple[str, ...]
    many: bool
    """May be repeated."""
    separated: bool
    """Several values may stand in one word, separated by commas."""
    default: str | None
    required: bool
    help: str
    group: str | None
    """Of a setting that lives in a group."""

    @property
    def parameter(self) -> str:
        """Its name as a Python parameter."""
        return "_".join(self.setting)


def flags_of(model: type[Settings], within: Setting = ()) -> list[Flag]:
    """The flags of a model: what must be given first, then as declared, the model's own first."""
    found: list[Flag] = []
    for name in _own_first(model):
        field = model.model_fields[name]
        if group_of(model, name) is not None:
            if name in model.flat_groups:
                found += flags_of(_group(model, name), (*within, name))
        elif _fits_a_word(field):
            found.append(_flag(model, name, field, within))
    return sorted(found, key=lambda flag: not flag.required)


def flag_of(model: type[Settings], setting: Setting) -> str:
    """How a setting is given on the command line."""
    *outer, name = setting
    owner = group_of_path(model, tuple(outer))
    flat = len(setting) == 1 or (len(setting) == 2 and outer[0] in model.flat_groups)
    if owner is not None and flat and name in owner.model_fields:
        field = owner.model_fields[name]
        if group_of(owner, name) is None and _fits_a_word(field):
            return _flag(owner, name, field, tuple(outer)).name
    return f"--set {'.'.join(setting)}"


def _flag(model: type[Settings], name: str, field: FieldInfo, within: Setting) -> Flag:
    given = next((each.name for each in field.metadata if isinstance(each, FlagName)), None)
    word = within[-1] if within and name == model.shorthand else name
    written = given or "--" + word.replace("_", "-")
    kinds = _kinds(field.annotation)
    many = any(get_origin(kind) is tuple for kind in kinds)
    inner = [part for kind in kinds for part in (get_args(kind) if many else (kind,))]
    choices = tuple(
        str(choice) for kind in inner if get_origin(kind) is Literal for choice in get_args(kind)
    )
    words = [_WORDS[kind] for kind in inner if kind in _WORDS]
    value = "|".join(dict.fromkeys([*choices, *words]))
    text = " ".join((field.description or "").replace("`", "").split())
    if len(value) > _LONGEST:
        text, value = f"{text} One of {', '.join(choices)}.", "choice"
    switch = kinds == [bool]
    off = f"--no-{written.removeprefix('--')}" if switch else None
    return Flag(
        setting=(*within, name),
        name=written,
        off=off,
        value=value,
        choices=choices,
        many=many,
        separated=many and str in inner,
        default=_default(field, written, off),
        required=field.is_required(),
        help=text,
        group=within[-1] if within else None,
    )


def _default(field: FieldInfo, on: str, off: str | None) -> str | None:
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if value is None or value == ():
        return None
    if off is not None:
        return (on if value else off).removeprefix("--")
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _kinds(annotation: Any) -> list[Any]:
    """The members of a union, without None."""
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [] if annotation is NoneType else [annotation]


def _fits_a_word(field: FieldInfo) -> bool:
    plain = (Literal, tuple)
    return all(kind in _WORDS or get_origin(kind) in plain for kind in _kinds(field.annotation))


def _own_first(model: type[Settings]) -> list[str]:
    order = {name: 0 for kind in model.__mro__ for name in getattr(kind, "__annotations__", {})}
    return [name for name in order if name in model.model_fields]


def _group(model: type[Settings], name: str) -> type[Settings]:
    group = group_of(model, name)
    assert group is not None
    return group
