"""Configs, queries and addresses that attack or give away: one short line, at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from cluster.settings import ForecastSettings, load_settings
from market.errors import ConfigError, SourceError, StoreError
from market.importing.sql_source import read_query
from market.secrets import hidden
from market.storage import Folder
from tests.field.reliability.made_up import small_store

HERE = Path(__file__).parent

MESSAGES = {
    "bomb.yaml": "expands to more than",
    "deep.yaml": "nested deeper than 32 levels",
}


def refused(path: Path) -> str:
    begun = time.process_time()
    with pytest.raises(ConfigError) as error:
        load_settings(path, ForecastSettings)
    assert time.process_time() - begun < 2
    message = str(error.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize("name", MESSAGES)
def test_bombs_and_depths_are_refused(name: str) -> None:
    message = refused(HERE / "yaml_bomb" / name)
    assert MESSAGES[name] in message
    assert len(message) < 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: " + "9" * 100_000, "cannot be read"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
        ("x" * 300 + ": 1", "a key of more than 200 characters"),
        ("seed: " + "x" * 200_000, "must be a valid integer"),
        ("seed: 2024-13-45", "cannot be read"),
        ("{" * 20_000, "nested deeper"),
        ("- " * 20_000, "nested deeper"),
        ("seed: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: &a {" + ", ".join(f"k{n}: {n}" for n in range(1000)) + "}\n"
         + "b: {<<: [" + ",".join(["*a"] * 2000) + "]}", "expands to more than"),
        ("x" * (2 << 20), "larger than 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_other_hostile_files_are_too(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert said in refused(path)


def test_the_command_says_one_short_line(tmp_path: Path) -> None:
    for words in (
        ["--config", HERE / "yaml_bomb" / "bomb.yaml"],
        ["--store", tmp_path, "--out", tmp_path / "o", "--as-of", "9" * 100_000],
    ):
        done = subprocess.run(
            [sys.executable, "-c", "from cluster.cli import main; main()", "forecast",
             *map(str, words)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stdout.strip() == ""
        assert done.stderr.count("\n") == 1
        assert len(done.stderr) < 700


@pytest.fixture
def database(tmp_path: Path) -> str:
    with duckdb.connect(str(tmp_path / "bars.db")) as connection:
        connection.execute("CREATE TABLE bars AS SELECT 1 AS a, 2 AS b")
    return f"duckdb:///{tmp_path / 'bars.db'}"


WRITES = (
    "SELECT 1; COPY bars TO '{file}'",
    "COPY bars TO '{file}'",
    "COPY (SELECT 1) TO '{file}'; SELECT * FROM bars",
    "SELECT * FROM enable_logging(storage='file', storage_path='{file}')",
    "SELECT * FROM enable_profiling(save_location='{file}.txt')",
    "EXPLAIN ANALYZE COPY bars TO '{file}'",
    "ATTACH '{file}' AS other",
    "SET enable_external_access = true",
    "EXPORT DATABASE '{file}'",
    "INSTALL httpfs",
    "",
)


@pytest.mark.parametrize("query", WRITES)
def test_a_query_can_only_read(query: str, database: str, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(SourceError, match="the query failed"):
        read_query(database, query.format(file=tmp_path / "written"))
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "query", ["SELECT * FROM bars", "WITH x AS (FROM bars) SELECT a FROM x;", "FROM bars"]
)
def test_a_query_that_reads_is_run(query: str, database: str) -> None:
    assert read_query(database, query)["a"].to_list() == [1]


def test_so_is_one_over_the_history(tmp_path: Path) -> None:
    history = small_store(tmp_path / "store", 6, 60)
    assert history.sql("SELECT count(*) AS n FROM bars")["n"].item() > 0
    with pytest.raises(StoreError, match="one SELECT"):
        history.sql(f"SELECT 1; COPY bars TO '{tmp_path / 'written'}'")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://AKIA:ab/cd@bucket/x", "s3://***@bucket/x"),
        ("postgres://user:pa:ss@host:5432/db?x=1", "postgres://***@host:5432/db?x=1"),
        ("postgres://user:pa@ss:wo@host/db", "postgres://***@host/db"),
        ("s3://a:b@c, and s3://d:e@f", "s3://***@c, and s3://***@f"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("az://c/x?sv=1&sig=ab%3D&sp=r", "az://c/x?sv=1&sig=***&sp=r"),
        ("s3://b/x?X-Amz-Signature=1f&X-Amz-Credential=AK", "s3://b/x?X-Amz-Signature=***&X-Amz-Credential=***"),
        ("Server=h;Password=geheim;Db=x", "Server=h;Password=***;Db=x"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("s3://bucket/a=1/b@2", "s3://bucket/a=1/b@2"),
        ("lookback=64, top_k=5", "lookback=64, top_k=5"),
    ],
)  # fmt: skip
def test_secrets_in_addresses_are_hidden(text: str, shown: str) -> None:
    assert hidden(text) == shown
    assert str(StoreError(f"{text} is not a store")) == f"{shown} is not a store"


def test_no_message_shows_them() -> None:
    with pytest.raises(SourceError) as error:
        read_query("postgres://me:hunter2@host/db", "SELECT 1")
    assert "hunter2" not in str(error.value)
    with pytest.raises(StoreError) as other:
        Folder("nowhere://me:hunter2@host/db").read("x")
    assert "hunter2" not in str(other.value)
