"""Which package may import what, and what `--help` may cost; each checked in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "vectorbt", "polars", "pandas", "duckdb", "numba", "plotly")

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
for name in getattr(package, "__all__", ()):
    getattr(package, name)
print(*sys.modules)
"""

BLOCKED = """
import importlib.util, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Block())
import forecaster.kronos
from forecaster import Kronos, KronosPredictor, KronosTokenizer
tokenizer = KronosTokenizer(
    d_in=6, d_model=16, n_heads=2, ff_dim=16, n_enc_layers=2, n_dec_layers=2, ffn_dropout_p=0.0,
    attn_dropout_p=0.0, resid_dropout_p=0.0, s1_bits=4, s2_bits=4, beta=0.05, gamma0=1.0,
    gamma=1.1, zeta=0.05, group_size=4,
)
print(sum(weight.numel() for weight in tokenizer.parameters()))
"""


def fresh(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def top_level(modules: str) -> set[str]:
    return {name.partition(".")[0] for name in modules.split()}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("market", {"torch", "ray", "forecaster", "backtest", "cluster", "candlecast", "vectorbt"}),
        ("forecaster", {"ray", "backtest", "cluster", "candlecast", "vectorbt"}),
        ("backtest", {"torch", "ray", "forecaster", "cluster", "candlecast"}),
        ("candlecast", {"ray", "vectorbt"}),
    ],
)
def test_imports_point_one_way(package: str, forbidden: set[str]) -> None:
    loaded = top_level(fresh(IMPORT_ALL.format(package=package)))
    assert not loaded & forbidden


def test_kronos_needs_only_torch_numpy_and_safetensors() -> None:
    blocked = {
        "pandas", "polars", "huggingface_hub", "duckdb", "pyarrow", "ray", "deltalake", "vectorbt",
        "numba", "plotly", "exchange_calendars", "pydantic", "typer", "rich", "yaml", "jinja2",
    }  # fmt: skip
    assert int(fresh(BLOCKED.format(blocked=blocked))) > 0


def test_replicas_of_a_baseline_do_without_torch() -> None:
    code = """
import sys
import cluster.forecasting.replica
from forecaster.registry import load_forecaster
load_forecaster("random-walk")
print(*sys.modules)
"""
    assert "torch" not in top_level(fresh(code))


@pytest.mark.parametrize("package", ["market", "forecaster", "backtest", "cluster", "candlecast"])
def test_importing_a_package_alone_costs_nothing(package: str) -> None:
    loaded = {
        name.partition(".")[0]
        for name in fresh(f"import {package}, sys; print(*sys.modules)").split()
    }
    assert not loaded & set(HEAVY)


def test_importing_candlecast_is_fast() -> None:
    code = """
import time
begun = time.process_time()
import candlecast
print(time.process_time() - begun)
print(*dir(candlecast))
"""
    seconds, names = fresh(code).splitlines()
    assert float(seconds) < 0.3
    assert {"forecast", "backtest", "Store", "Kronos", "__version__"} <= set(names.split())


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = """
import resource, sys
from cluster.cli import main
sys.argv = ["candlecast", "--help"]
try:
    main()
except SystemExit as done:
    assert not done.code
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
print(*sys.modules)
"""
    *_, seconds, modules = fresh(code).splitlines()
    loaded = top_level(modules)
    assert not loaded & set(HEAVY)
    assert float(seconds) < 0.5


def test_every_command_is_listed() -> None:
    text = fresh(
        "import sys; sys.argv = ['candlecast', '--help']\nfrom cluster.cli import main; main()"
    )
    for command in ("demo", "data", "forecast", "backtest", "sweep", "train"):
        assert f" {command} " in text
