"""Settings objects: typed, frozen, strict about keys, with errors a user can act on.

Knows pydantic, how groups of settings nest and how a wrong value is reported; no setting itself.

A setting has one home, a field of one model, and its docstring there is its help everywhere. Groups
are fields whose type is another `Settings`. A model may let the settings of some groups be written
without the group's name (`flat_groups`): `commission_bps: 5` beside `costs: {min_fee: 1}`. A dotted
name, `costs.commission_bps`, works for every group.
"""

from __future__ import annotations

import difflib
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from market.errors import ConfigError
from market.storage import is_url

Path = tuple[str, ...]
"""Where a setting lives: ("costs", "commission_bps")."""

SettingsT = TypeVar("SettingsT", bound="Settings")


def _place(value: str | pathlib.Path) -> str | pathlib.Path:
    return value if is_url(str(value)) else pathlib.Path(value)


Place = Annotated[str | pathlib.Path, AfterValidator(_place)]
"""A local folder, or a URL such as s3://bucket/folder."""

_LONGEST = 80
"""Characters of a wrong value that a message repeats."""


class Settings(BaseModel):
    """Frozen, and strict about keys: a misspelt one is an error, never a silently ignored wish.

    Whatever is wrong raises ConfigError in one line, from the constructor and from
    `model_validate` alike. Messages of a model's own rules name settings in backticks (`lag`);
    they reach the reader as the key, the attribute or the command-line flag that was used.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    flat_groups: ClassVar[tuple[str, ...]] = ()
    """Groups whose settings may also be written without the group's name."""
    shorthand: ClassVar[str | None] = None
    """The setting that a bare word stands for: `strategy: topk` is `strategy: {name: topk}`."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(told(error, type(self))) from error

    # Nested settings are validated by pydantic itself, which then knows where a wrong one is.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        """Settings from a mapping. Raises ConfigError."""
        try:
            return super().model_validate(obj, **how)
        except ValidationError as error:
            raise ConfigError(told(error, cls)) from error

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **how: Any) -> Self:
        """Settings from JSON. Raises ConfigError."""
        try:
            return super().model_validate_json(json_data, **how)
        except ValidationError as error:
            raise ConfigError(told(error, cls)) from error

    @model_validator(mode="before")
    @classmethod
    def _into_groups(cls, values: Any) -> Any:
        if isinstance(values, str) and cls.shorthand is not None:
            return {cls.shorthand: values}
        return nested(cls, values) if isinstance(values, Mapping) else values


def group_of(model: type[BaseModel], name: str) -> type[Settings] | None:
    """The settings model of a field, where the field is a group."""
    field = model.model_fields.get(name)
    if field is None:
        return None
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Settings):
            return kind
    return None


def place(model: type[Settings], key: str) -> Path | None:
    """Where a setting written as `key` lives; None where nothing is called so.

    Raises ValueError for a name without its group that two groups own.
    """
    if key in model.model_fields:
        return (key,)
    first, dot, rest = key.partition(".")
    if dot:
        group = group_of(model, first)
        inner = None if group is None else place(group, rest)
        return None if inner is None else (first, *inner)
    owners = []
    for name in model.flat_groups:
        group = group_of(model, name)
        inner = None if group is None or key == group.shorthand else place(group, key)
        if inner is not None:
            owners.append((name, *inner))
    if len(owners) > 1:
        both = " or ".join(".".join(path) for path in owners)
        raise ValueError(f"{key}: belongs to several groups; write {both}")
    return owners[0] if owners else None


def nested(model: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with every setting in its group.

    Raises ValueError where one is given twice with different values.
    """
    out = {key: value for key, value in values.items() if len(place(model, key) or key) == 1}
    out |= {key: value for key, value in values.items() if place(model, key) is None}
    for key, value in values.items():
        path = place(model, key)
        if path is None or len(path) == 1:
            continue
        name, *inner = path
        group = group_of(model, name)
        assert group is not None
        there = _as_mapping(group, out.get(name, {}), name)
        written = ".".join(inner)
        if written in there and there[written] != value:
            raise ValueError(
                f"{key} and {'.'.join(path)} are the same setting, given twice with different "
                f"values: {value!r} and {there[written]!r}; keep one"
            )
        out[name] = nested(group, {**there, written: value})
    return out


def overlay(
    model: type[Settings], below: Mapping[str, Any], above: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of which those `above` win, setting by setting; both may be flat or nested.

    Raises ValueError as `nested` does.
    """
    out, above = nested(model, below), nested(model, above)
    for key, value in above.items():
        group = group_of(model, key)
        if group is None or value is None or out.get(key) is None:
            out[key] = value
        else:
            out[key] = overlay(
                group, _as_mapping(group, out[key], key), _as_mapping(group, value, key)
            )
    return out


def flat(settings: Settings) -> dict[str, Any]:
    """JSON values by name, without the names of `flat_groups`; for people to read."""
    out: dict[str, Any] = {}
    for key, value in settings.model_dump(mode="json").items():
        group = group_of(type(settings), key)
        if group is None or key not in settings.flat_groups:
            out[key] = value
        else:
            out |= {key if name == group.shorthand else name: v for name, v in value.items()}
    return out


def told(
    error: ValidationError,
    model: type[Settings],
    spell: Callable[[Path], str] = ".".join,
    word: Callable[[Path], str] | None = None,
    missing: str = "",
) -> str:
    """What is wrong with settings, in one line.

    spell: how the reader writes a setting; word: how, within a sentence; missing: what to do about
    one that is missing, with {key} for its name.
    """
    word = word or spell
    urgency = {"extra_forbidden": 0, "missing": 2}
    problem = min(error.errors(), key=lambda each: urgency.get(each["type"], 1))
    path, owner = _path(model, problem["loc"])
    rule = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if problem["type"] == "extra_forbidden":
        known = sorted(owner.model_fields)
        names = [*known, *(n for name in owner.flat_groups for n in _names(owner, name))]
        near = difflib.get_close_matches(path[-1], names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{spell(path)}: unknown key; {hint}known are {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{spell(path)} is missing{missing.format(key='.'.join(path))}"
    group = group_of_path(model, path)
    if problem["type"] == "value_error" and group is not None:
        return _spelt(rule, model, path, word)
    if group is not None:
        rule = "must be settings by name"
    value = repr(problem["input"])
    if len(value) > _LONGEST:
        value = f"{value[:_LONGEST]}…"
    subject = f"{spell(path)}: " if path else ""
    return f"{subject}{_spelt(rule, model, path[:-1], word)}, got {value}"


def group_of_path(model: type[Settings], path: Path) -> type[Settings] | None:
    """The settings model at a path, where it leads to a group; the model itself for ()."""
    here: type[Settings] | None = model
    for name in path:
        here = None if here is None else group_of(here, name)
    return here


def _path(model: type[Settings], where: tuple[int | str, ...]) -> tuple[Path, type[Settings]]:
    """The setting that a validator's location names, and the model that owns it."""
    path: Path = ()
    owner = model
    for step in where:
        path = (*path, str(step))
        group = group_of(owner, str(step))
        if group is None:
            break
        if len(path) < len(where):
            owner = group
    return path, owner


def _names(model: type[Settings], group: str) -> list[str]:
    inner = group_of(model, group)
    return [] if inner is None else [key for key in inner.model_fields if key != inner.shorthand]


def _as_mapping(group: type[Settings], value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, Settings):
        return {key: getattr(value, key) for key in value.model_fields_set}
    if isinstance(value, str) and group.shorthand is not None:
        return {group.shorthand: value}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected its settings by name, got {value!r}")
    return dict(value)


def _spelt(rule: str, model: type[Settings], group: Path, word: Callable[[Path], str]) -> str:
    """A rule's words, with each setting in backticks as the reader writes it."""
    owner = group_of_path(model, group)

    def name(match: re.Match[str]) -> str:
        path = None if owner is None else place(owner, match[1])
        return match[1] if path is None else word((*group, *path))

    return re.sub(r"`([\w.]+)`", name, rule)
