"""Settings of the commands: typed, frozen, checked; read from YAML, overridden by flags.

Knows what a user may ask for and how a wrong key is reported; nothing of how it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from market.errors import ConfigError
from market.storage import is_url


def _place(value: str | Path) -> str | Path:
    return value if is_url(str(value)) else Path(value)


Place = Annotated[str | Path, AfterValidator(_place)]
"""A local folder, or a URL such as s3://bucket/folder."""

SettingsT = TypeVar("SettingsT", bound=BaseModel)


class ForecastSettings(BaseModel):
    """What to forecast, with which model, and where the table goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path
    """Folder of the history lake."""
    source: str | None = None
    """Database to import bars from first, duckdb:///file.db; needs query."""
    query: str | None = None
    """SQL that selects those bars."""
    store_version: str | None = None
    """Version of the history to read; the newest without. Repeats an older night exactly."""
    out: Place
    """Folder or URL of the forecast table; made when missing."""
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
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the model's matrices and caches; bfloat16 is faster where the processor has it."""
    overflow: Literal["trim", "recompute"] = "trim"
    """Where lookback + horizon exceed the model's context: drop the oldest bars, or slide along."""
    memory_mb: int | None = Field(default=None, ge=1)
    """Most memory for the caches of a replica's paths; none lets it take what it needs."""
    seed: int = Field(default=0, ge=0)
    """Keys the noise together with symbol and as_of."""
    repair: bool = True
    """Repair sampled bars that break the bar rules (counted either way)."""
    max_gap_sessions: int = Field(default=5, ge=0)
    """Longest interior gap of a lookback, in sessions; beyond it a symbol is skipped."""
    allow_suspected_splits: bool = False
    """Forecast windows that hold a move like a split that no corporate action explains, flagged."""
    keep_paths: bool = False
    """Also keep every sampled bar."""
    replicas: Literal["auto"] | int | str = "auto"
    """Model copies at work, one thread each: a number, min:max, or auto for one per core."""
    gpus_per_replica: float = Field(default=0.0, ge=0)
    """Share of a GPU each replica takes; 0 computes on the CPU."""
    shard_size: Literal["auto"] | int = "auto"
    """Symbols per unit of work; auto is 64, or fewer where replicas would stand idle."""
    no_progress_timeout_s: float = Field(default=900.0, gt=0)
    """Give up when no replica finishes anything for this long."""
    wait_for_other_s: float = Field(default=600.0, ge=0)
    """Wait so long for another driver that already does this work, before giving up."""
    address: str | None = None
    """Join this Ray cluster instead of starting a local one."""

    @property
    def device(self) -> str:
        """Of the replicas, as torch names it."""
        return "cuda:0" if self.gpus_per_replica else "cpu"

    @model_validator(mode="after")
    def _source_and_query(self) -> Self:
        if (self.source is None) != (self.query is None):
            raise ValueError("source and query belong together")
        return self

    @field_validator("shard_size", mode="before")
    @classmethod
    def _auto_or_count(cls, value: object) -> object:
        text = str(value)
        if text != "auto" and not (text.isdigit() and int(text) >= 1):
            raise ValueError("must be auto or a whole number >= 1")
        return value

    @field_validator("replicas", mode="before")
    @classmethod
    def _replicas(cls, value: object) -> object:
        text = str(value)
        if text == "auto":
            return text
        bounds = [int(part) for part in text.split(":") if part.isdigit()]
        if (
            len(bounds) != text.count(":") + 1
            or len(bounds) > 2
            or not 1 <= bounds[0] <= bounds[-1]
        ):
            raise ValueError("must be auto, a whole number >= 1, or min:max")
        return bounds[0] if len(bounds) == 1 else text


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
