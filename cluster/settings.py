"""Settings of the commands: typed, frozen, checked; read from YAML, overridden by flags.

Knows what a user may ask for and how a wrong key is reported; nothing of how it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from market.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=BaseModel)


class ForecastSettings(BaseModel):
    """What to forecast, with which model, and where the table goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path
    """Folder of the history lake."""
    out: Path
    """Folder of the forecast table; made when missing."""
    as_of: str
    """A date, or FROM:TO:STEP with STEP one of daily, weekly, monthly or a number of sessions."""
    universe: str = "all"
    """all, symbols separated by commas, top:N by traded amount, or a file of members."""
    lookback: int = Field(default=256, ge=2)
    """Bars the model sees."""
    horizon: int = Field(default=20, ge=1)
    """Bars it forecasts."""
    paths: int = Field(default=16, ge=1)
    """Sampled futures per symbol and date."""
    model: str = "nano"
    """Alias, folder or hub id of the predictor; random-walk and bootstrap are the baselines."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, where the alias does not say it."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Divides the logits."""
    top_k: int = Field(default=0, ge=0)
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the likeliest tokens up to this probability; below 1 the intervals become too narrow."""
    seed: int = Field(default=0, ge=0)
    """Keys the noise together with symbol and as_of."""
    repair: bool = True
    """Repair sampled bars that break the bar rules (counted either way)."""
    max_gap_sessions: int = Field(default=5, ge=0)
    """Longest interior gap of a lookback, in sessions; beyond it a symbol is skipped."""
    keep_paths: bool = False
    """Also keep every sampled bar."""
    replicas: Literal["auto"] | int = "auto"
    """Model copies at work, one thread each; auto is one per core."""
    shard_size: Literal["auto"] | int = "auto"
    """Symbols per unit of work; auto is 64, or fewer where replicas would stand idle."""
    no_progress_timeout_s: float = Field(default=900.0, gt=0)
    """Give up when no replica finishes anything for this long."""
    address: str | None = None
    """Join this Ray cluster instead of starting a local one."""

    @field_validator("replicas", "shard_size", mode="before")
    @classmethod
    def _auto_or_count(cls, value: object) -> object:
        text = str(value)
        if text != "auto" and not (text.isdigit() and int(text) >= 1):
            raise ValueError("must be auto or a whole number >= 1")
        return value


def load_settings(
    path: Path | None, model: type[SettingsT], overrides: Mapping[str, Any] | None = None
) -> SettingsT:
    """Settings from a YAML file, then from flags, which win; flags that are None are not given.

    Raises ConfigError naming file and key for an unknown key, a value out of range or a missing
    setting.
    """
    from_file = {} if path is None else _read_yaml(path)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    try:
        return model.model_validate({**from_file, **given})
    except ValidationError as error:
        urgency = {"extra_forbidden": 0, "missing": 2}
        problem = min(error.errors(), key=lambda each: urgency.get(each["type"], 1))
        if not problem["loc"]:  # a rule between several settings, which names them itself
            raise ConfigError(problem["msg"].removeprefix("Value error, ")) from error
        key = str(problem["loc"][0])
        flag = "--" + key.replace("_", "-")
        source = flag if key in given or path is None else f"{path}: {key}"
        if problem["type"] == "extra_forbidden":
            allowed = ", ".join(sorted(model.model_fields))
            raise ConfigError(f"{source}: unknown key; known are {allowed}") from error
        if problem["type"] == "missing":
            also = "" if path is None else f" (or {key}: in {path})"
            raise ConfigError(f"{flag} is missing; give it on the command line{also}") from error
        rule = problem["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{source}: {rule}, got {problem['input']!r}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found a {type(content).__name__}")
    return {str(key): value for key, value in content.items()}
