"""Options of a command, made from its settings model; and what several commands share.

Knows typer and how flags become settings. A command is a function of its settings:

    @from_settings("candlecast forecast --store STORE --as-of 2024-06-28 --out TABLE")
    def forecast(settings: ForecastSettings, output: Output) -> None: ...

gets every flag of `ForecastSettings`, and --config, --set, --json and --quiet.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
import yaml

from cluster.commands.output import AsJson, Output, Quiet
from cluster.flags import Flag, flags_of
from cluster.settings import load_settings
from market.errors import ConfigError
from market.settings import Settings

Config = Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")]
NeededConfig = Annotated[Path, typer.Option(help="YAML file of settings; flags win over it.")]
Other = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the YAML file, e.g. --set gate.min_symbols=9.",
    ),
]

_PARAMETER = inspect.Parameter


def from_settings(
    *shown: str, config: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a function of settings into a function of flags, which typer makes a command of.

    Of the function's parameters, the first that is a settings model gives the flags and the last
    is what the YAML file holds (usually they are the same); `output` is how it prints; any further
    ones are options of their own. shown: example calls, below the help. config: whether a YAML
    file must be given.
    """

    def made(run: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(run, include_extras=True)
        told = [name for name, kind in hints.items() if _is_settings(kind)]
        model, filed = hints[told[0]], hints[told[-1]]
        flags = flags_of(model)
        own = [
            each
            for each in inspect.signature(run).parameters.values()
            if each.name not in (*told, "output")
        ]
        prints = "output" in hints

        def call(**given: Any) -> None:
            more: dict[str, Any] = {each.name: given.pop(each.name) for each in own}
            if prints:
                more["output"] = Output(as_json=given.pop("as_json"), quiet=given.pop("quiet"))
            path, pairs = given.pop("config"), given.pop("other")
            values, pairs = _values(flags, given), key_values(pairs or [])
            if model is filed:
                more[told[0]] = load_settings(path, model, values | pairs)
            else:
                more[told[0]] = load_settings(None, model, values)
                more[told[-1]] = load_settings(path, filed, pairs)
            run(**more)

        own = [
            each.replace(annotation=hints[each.name], kind=_PARAMETER.KEYWORD_ONLY) for each in own
        ]
        path_given = (NeededConfig, _PARAMETER.empty) if config else (Config, None)
        parameters = [
            *map(_parameter, flags),
            *own,
            _keyword("config", *path_given),
            _keyword("other", Other, None),
        ]
        if prints:
            parameters += [_keyword("as_json", AsJson, False), _keyword("quiet", Quiet, False)]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in parameters}
        call.__doc__, call.__name__ = run.__doc__, run.__name__
        return examples(*shown)(call)

    return made


def examples(*calls: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Calls of a command to show below its help."""

    def noted(run: Callable[..., None]) -> Callable[..., None]:
        run.__dict__["examples"] = calls
        return run

    return noted


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def add(app: typer.Typer, run: Callable[..., None], name: str | None = None) -> None:
    """Make a function a command of an app, its examples below the help."""
    calls = run.__dict__.get("examples", ())
    epilog = "\n\n".join(["Examples:", *map(_escaped, calls)]) if calls else None
    app.command(name, epilog=epilog)(run)


def key_values(pairs: Sequence[str]) -> dict[str, Any]:
    """key=value arguments as settings; values are read as YAML."""
    found = {}
    for text in pairs:
        key, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(f"--set {text}: expected key=value")
        try:
            found[key.strip().replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: the value is not valid YAML") from error
    return found


def _values(flags: Sequence[Flag], given: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for flag in flags:
        value = given[flag.parameter]
        if value is None or value == []:
            continue
        if flag.separated:
            value = [part for word in value for part in word.split(",")]
        found[".".join(flag.setting)] = value
    return found


def _parameter(flag: Flag) -> inspect.Parameter:
    """The flag as typer reads it. Values stay text: the settings model alone says what is right."""
    kind: Any = bool if flag.off else list[str] if flag.many else str
    text = flag.help
    if flag.required:
        text += " [required]"
    elif flag.default is not None:
        text += f" [default: {flag.default}]"
    option = typer.Option(
        f"{flag.name}/{flag.off}" if flag.off else flag.name,
        metavar=None if flag.off else f"<{flag.value}>",
        help=_escaped(text),
        show_default=False,
        rich_help_panel=flag.group.capitalize() if flag.group else None,
        autocompletion=(lambda: list(flag.choices)) if flag.choices else None,
    )
    return _keyword(flag.parameter, Annotated[kind | None, option], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return _PARAMETER(name, _PARAMETER.KEYWORD_ONLY, annotation=annotation, default=default)


def _escaped(text: str) -> str:
    """Square brackets as themselves, not as markup."""
    return text.replace("[", "\\[")
