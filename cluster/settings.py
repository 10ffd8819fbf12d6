"""Settings of the commands: typed, frozen, checked; read from YAML, overridden by flags.

Knows what a user may ask for and how a wrong key is reported; nothing of how it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from cluster.flags import flag_of
from cluster.yaml_files import read_yaml
from market.errors import ConfigError
from market.settings import Path as Setting
from market.settings import Place, Settings, SettingsT, group_of_path, nested, overlay, told

USUAL_BASELINES = ("random-walk", "bootstrap", "bootstrap-driftless", "ewma", "fhs")
"""What a model has to beat where nobody says otherwise."""


def _replica_count(value: object) -> object:
    text = str(value)
    if text == "auto":
        return text
    bounds = [int(part) for part in text.split(":") if part.isdigit()]
    if len(bounds) != text.count(":") + 1 or len(bounds) > 2 or not 1 <= bounds[0] <= bounds[-1]:
        raise ValueError("must be auto, a whole number >= 1, or min:max")
    return bounds[0] if len(bounds) == 1 else text


Replicas = Annotated[Literal["auto"] | int | str, BeforeValidator(_replica_count)]
"""How many copies of a model: auto, a number, or min:max."""


class HowToForecast(Settings):
    """Everything about a forecast but the model, the bars and the dates."""

    universe: str = "all"
    """all, AAPL,MSFT, top:N by traded amount, sample:N drawn by name and date, or a file."""
    lookback: int = Field(256, ge=2)
    """Bars the model sees."""
    horizon: int = Field(20, ge=1)
    """Bars it forecasts."""
    paths: int = Field(64, ge=1)
    """Sampled futures per symbol and date."""
    temperature: float = Field(1.0, gt=0)
    """Divides the logits."""
    top_k: int = Field(0, ge=0)
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Keep the likeliest tokens up to this probability; below 1 the intervals become too narrow."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the model's matrices and caches; bfloat16 is faster where the processor has it."""
    overflow: Literal["trim", "recompute"] = "trim"
    """Where lookback + horizon exceed the model's context: drop the oldest bars, or slide along."""
    memory_mb: int | None = Field(None, ge=1)
    """Most memory, in MiB, for the caches of a replica's paths. Without: what they need."""
    seed: int = Field(0, ge=0)
    """Keys the noise together with symbol and as_of."""
    repair: bool = True
    """Repair sampled bars that break the bar rules (counted either way)."""
    anchor: bool = True
    """Move paths of level-token models by the decoder's error at the last known close."""
    calibration: Literal["off", "on", "collect"] = "off"
    """on: publish what did best on the past, the raw paths, calibrated ones, or a baseline's.
    collect: publish the raw paths, but keep closes to calibrate later forecasts by, as on does."""
    calibration_symbols: int = Field(32, ge=4)
    """Symbols per date whose raw closes are kept to calibrate by."""
    calibration_baselines: tuple[str, ...] = USUAL_BASELINES
    """Published instead where they did best; baselines of installed packages as well."""
    max_gap_sessions: int = Field(5, ge=0)
    """Longest interior gap of a lookback, in sessions; beyond it a symbol is skipped."""
    allow_suspected_splits: bool = False
    """Forecast windows that hold a move like a split that no corporate action explains, flagged."""
    keep_paths: bool = False
    """Also keep every sampled bar."""
    replicas: Replicas = "auto"
    """Model copies at work, one thread each: a number, min:max, or auto for one per core."""
    gpus_per_replica: float = Field(0.0, ge=0)
    """Share of a GPU each replica takes; 0 computes on the CPU."""
    shard_size: Literal["auto"] | int = "auto"
    """Symbols per unit of work; auto is 64, or fewer where replicas would stand idle."""
    no_progress_timeout_s: float = Field(900.0, gt=0)
    """Give up when no replica finishes anything for this many seconds."""
    wait_for_other_s: float = Field(600.0, ge=0)
    """Wait this many seconds for another driver that already does this work, then give up."""

    @property
    def device(self) -> str:
        """Of the replicas, as torch names it."""
        return "cuda:0" if self.gpus_per_replica else "cpu"

    @field_validator("calibration", mode="before")
    @classmethod
    def _on_and_off_of_yaml(cls, value: object) -> object:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("shard_size", mode="before")
    @classmethod
    def _auto_or_count(cls, value: object) -> object:
        text = str(value)
        if text != "auto" and not (text.isdigit() and int(text) >= 1):
            raise ValueError("must be auto or a whole number >= 1")
        return value


class ModelForecast(HowToForecast):
    """How to forecast, and with which model."""

    model: str = "nano"
    """nano, mini, small, base, timellm:FOLDER, a folder or a hub id, or a baseline such as
    random-walk, bootstrap, ewma or fhs."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, where the alias does not say it."""
    address: str | None = None
    """Join this Ray cluster instead of starting a local one."""


class ForecastSettings(ModelForecast):
    """What to forecast, with which model, and where the table goes."""

    store: Place
    """Folder or URL of the history, made by 'candlecast data import'."""
    as_of: str
    """Date to forecast from (its close is known), several with commas between, or FROM:TO:STEP
    with STEP one of daily, weekly, monthly or a number of sessions."""
    out: Place
    """Folder or URL of the forecast table; made when missing."""
    source: str | None = None
    """Import bars from this database first: duckdb:///file.db; needs query."""
    query: str | None = None
    """SQL that selects those bars."""
    store_version: str | None = None
    """Version of the history to read; repeats an older night exactly. Without: the newest."""

    @model_validator(mode="after")
    def _source_and_query(self) -> Self:
        if (self.source is None) != (self.query is None):
            raise ValueError("`source` and `query` belong together")
        return self


def load_settings(
    path: Path | None, model: type[SettingsT], flags: Mapping[str, Any] | None = None
) -> SettingsT:
    """Settings from a YAML file, then from flags, which win; flags that are None are not given.

    flags: by the name of the setting, with or without that of its group. Raises ConfigError naming
    the flag, or file and key, for an unknown key, a value out of range or a missing setting.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    from_file = {} if path is None else read_yaml(path)
    try:
        above = nested(model, given)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        values = overlay(model, from_file, above)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return model.model_validate(values)
    except ConfigError as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError):
            raise
        raise ConfigError(_told(cause, model, path, above, values)) from cause


def _told(
    error: ValidationError,
    model: type[SettingsT],
    path: Path | None,
    above: Mapping[str, Any],
    values: Mapping[str, Any],
) -> str:
    """What is wrong, with settings named as they were given: the flag, or file and key."""

    prefix = ""

    def from_file(setting: Setting) -> bool:
        return not _holds(model, above, setting) and _holds(model, values, setting)

    def subject(setting: Setting) -> str:
        key = ".".join(setting)
        if not from_file(setting):
            return flag_of(model, setting)
        return f"{path}: {key}"

    def word(setting: Setting) -> str:
        nonlocal prefix
        if not from_file(setting):
            return flag_of(model, setting)
        prefix = f"{path}: "
        return ".".join(setting)

    also = "; give it on the command line"
    if path is not None:
        also += f" (or {{key}}: in {path})"
    text = told(error, model, subject, word, missing=also)
    return text if str(path) in text else prefix + text


def _holds(model: type[Settings], values: Mapping[str, Any], setting: Setting) -> bool:
    """Whether a value was given for a setting, or for something inside it."""
    here: Any = values
    for depth, name in enumerate(setting):
        if isinstance(here, str):  # a word instead of the group
            group = group_of_path(model, setting[:depth])
            return group is not None and name == group.shorthand
        if not isinstance(here, Mapping) or name not in here:
            return False
        here = here[name]
    return True
