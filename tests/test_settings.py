"""Groups of settings: flat and dotted names, what is given twice, and how errors name a key."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from backtest.settings import BacktestRequest, BacktestSettings
from cluster.night.settings import NightlySettings
from cluster.settings import load_settings
from forecaster.training.config import PredictorTraining
from market.errors import ConfigError
from market.settings import Settings, flat, nested, overlay


class Fees(Settings):
    rate: float = Field(5.0, ge=0)
    floor: float = 1.0

    @model_validator(mode="after")
    def _together(self) -> Fees:
        if self.floor > 100 and not self.rate:
            raise ValueError("`floor` needs `rate`")
        return self


class Plan(Settings):
    shorthand: ClassVar[str | None] = "name"

    name: str = "plain"
    size: int = Field(3, ge=1)
    floor: float = 0.0


class Job(Settings):
    flat_groups: ClassVar[tuple[str, ...]] = ("plan", "fees")

    plan: Plan = Plan()
    fees: Fees = Fees()
    cash: float = 10.0


def test_a_flat_a_dotted_and_a_nested_name_say_the_same() -> None:
    expected = Job(plan=Plan(name="other", size=4), fees=Fees(rate=2))
    for values in (
        {"plan": "other", "size": 4, "rate": 2},
        {"plan": {"name": "other", "size": 4}, "fees": {"rate": 2}},
        {"plan": "other", "plan.size": 4, "fees.rate": 2},
        {"plan": Plan(name="other"), "size": 4, "fees": Fees(rate=2)},
    ):
        assert Job(**values) == expected
        assert Job.model_validate(values) == expected
    assert flat(expected) == {
        "plan": "other", "size": 4, "rate": 2.0, "cash": 10.0, "floor": 1.0
    }  # fmt: skip
    assert Job.model_validate_json(expected.model_dump_json()) == expected


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans())
def test_what_lies_above_wins_however_it_is_written(
    below: int, above: int, flat_below: bool, flat_above: bool
) -> None:
    def written(value: int, is_flat: bool) -> dict[str, Any]:
        return {"size": value} if is_flat else {"plan": {"size": value}}

    low = {"plan.name": "kept", **written(below, True)} if flat_below else {
        "plan": {"name": "kept", "size": below}
    }  # fmt: skip
    made = Job.model_validate(overlay(Job, low, written(above, flat_above)))
    assert (made.plan.name, made.plan.size) == ("kept", above)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "plan.size: must be greater than or equal to 1, got 0"),
        ({"fees": {"rate": -1}}, "fees.rate: must be greater than or equal to 0, got -1"),
        ({"fees": {"rat": 1}}, "fees.rat: unknown key; did you mean rate?"),
        ({"siz": 1}, "siz: unknown key; did you mean size?"),
        ({"cash": float("inf")}, "cash: must be a finite number, got inf"),
        ({"fees": 3}, "fees: must be settings by name, got 3"),
        ({"fees": 3, "rate": 2}, "fees: expected its settings by name, got 3"),
        ({"size": 4, "plan": {"size": 5}}, "size and plan.size are the same setting.*4 and 5"),
        ({"floor": 4}, "floor: belongs to several groups; write plan.floor or fees.floor"),
        ({"fees": {"floor": 200, "rate": 0}}, "fees.floor needs fees.rate"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_whole_key(values: dict[str, Any], message: str) -> None:
    for make in (lambda: Job(**values), lambda: Job.model_validate(values)):
        with pytest.raises(ConfigError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_the_same_value_twice_is_no_contradiction() -> None:
    assert nested(Job, {"size": 4, "plan": {"size": 4}}) == {"plan": {"size": 4}}


def test_a_key_from_yaml_is_named_by_file_and_key_a_flag_by_its_name(tmp_path: Any) -> None:
    file = tmp_path / "t.yaml"
    base = {"store": "s", "momentum": 20}

    def said(text: str, flags: dict[str, Any], model: type[Settings] = BacktestRequest) -> str:
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_settings(file, model, flags)
        return str(caught.value)

    assert said("costs: {min_fee: -1}", base).startswith(f"{file}: costs.min_fee: must be greater")
    assert said("min_fee: -1", base).startswith(f"{file}: costs.min_fee: must be greater")
    assert said("", base | {"min_fee": "-1"}).startswith("--min-fee: must be greater")
    assert said("rules: {lag: 0}", base).startswith(f"{file}: rules.lag 0 fills at the very close")
    assert "use 1, or --allow-same-bar" in said("", base | {"lag": 0})
    assert said("k: 3\nstrategy: {k: 4}", base).startswith(f"{file}: k and strategy.k are the same")
    night = {"drop": "d", "store": "s", "out": "o", "reports": "r"}
    told = said("forecast: {paths: 0}", night, NightlySettings)
    assert told.startswith(f"{file}: forecast.paths: must be")
    told = said("", night | {"forecast.paths": 0}, NightlySettings)
    assert told.startswith("--set forecast.paths: must be")
    run = (
        "seed: 0\ndata: {train_through: 2020-01-01, validation_through: 2021-01-01, purge_bars: x}"
    )
    assert f"{file}: data.purge_bars: must be a valid integer" in said(run, {}, PredictorTraining)
    assert load_settings(None, BacktestRequest, base | {"k": "7"}).strategy.k == 7


def test_flags_win_over_the_file_setting_by_setting(tmp_path: Any) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("strategy: {name: dropout, k: 4}\nmin_fee: 0\nstore: s\nmomentum: 9\n")
    made = load_settings(file, BacktestRequest, {"k": "5", "costs.slippage_bps": 2})
    assert (made.strategy.name, made.strategy.k) == ("dropout", 5)
    assert (made.costs.min_fee, made.costs.slippage_bps) == (0, 2)


def test_longshort_may_sell_short_without_being_told() -> None:
    assert BacktestSettings.model_validate({"strategy": "longshort"}).effective_rules.short
    assert not BacktestSettings.model_validate({"strategy": "kelly"}).effective_rules.short
