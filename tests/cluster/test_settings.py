"""Settings files and the flags that win over them."""

from __future__ import annotations

from pathlib import Path

import yaml

from cluster.settings import ForecastSettings, load_settings

REQUIRED = {"store": "s", "out": "o", "as_of": "2016-01-08"}
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "forecast.yaml"


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(yaml.safe_dump(REQUIRED | {"lookback": 100, "horizon": 7}))
    settings = load_settings(file, ForecastSettings, {"horizon": 9, "paths": None})
    assert (settings.lookback, settings.horizon, settings.paths) == (100, 9, 16)
    assert settings.store == Path("s")


def test_the_config_in_the_box_holds_every_key_with_its_default() -> None:
    given = yaml.safe_load(CONFIG.read_text())
    settings = load_settings(CONFIG, ForecastSettings, REQUIRED)
    assert settings == ForecastSettings.model_validate(REQUIRED)
    commented = {"tokenizer", "address", "memory_mb"}
    assert set(given) == set(ForecastSettings.model_fields) - set(REQUIRED) - commented


def test_replicas_may_be_a_number_written_as_text() -> None:
    assert load_settings(None, ForecastSettings, REQUIRED | {"replicas": "3"}).replicas == 3
