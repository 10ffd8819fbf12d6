"""Files as people have them, made up: what goes in, what stays out, and what is said."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from market import (
    ImportOptions,
    ImportReport,
    Label,
    MarketHistory,
    future_timestamps,
    import_files,
)
from market.errors import SourceError

HERE = Path(__file__).parent
START = Label.START


class Imported:
    """What importing files of a case gave."""

    def __init__(self, store: Path, report: ImportReport) -> None:
        self.report = report
        self.history = MarketHistory.open(store)
        self.bars = self.history.scan().collect().sort("symbol", "close_utc")

    @property
    def labels(self) -> list[datetime]:
        return self.bars["timestamp"].to_list()

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.history.symbols().select("symbol", "n_bars").iter_rows())

    @property
    def notes(self) -> str:
        return "\n".join(self.report.notes)

    def first(self) -> tuple[float, ...]:
        return self.bars.select("open", "high", "low", "close").row(0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def load(store: Path, files: str, **options: Any) -> Imported:
    return Imported(store, import_files([HERE / files], store, ImportOptions(**options)))


@pytest.mark.parametrize(
    ("files", "options", "bars", "quarantined"),
    [
        ("banner_with_commas/*.csv", {"venue": "XNYS"}, {"AAAA": 12}, {}),
        ("binance_headerless/*", {"venue": "24/7", "label": START}, {"ETHUSDT": 30}, {}),
        ("binance_monthly_files/*", {"venue": "24/7", "label": START}, {"ETHUSDT": 60}, {}),
        ("gz_semicolon/*", {"venue": "XNYS"}, {"AAAA": 12}, {}),
        ("hive_glob/lake/*/*.parquet", {"venue": "XNYS"}, {"AAAA": 12, "BBBB": 12}, {}),
        ("hive_glob/lake", {"venue": "XNYS"}, {"AAAA": 12, "BBBB": 12}, {}),
        ("ibkr_named_zone/*", {"venue": "XNYS", "label": START}, {"AAAA": 160}, {}),
        ("offset_two_digits/*", {"venue": "XNYS", "label": START}, {"AAAA": 160}, {}),
        ("compact_yyyymmddhhmmss/*", {"venue": "XNYS", "label": START}, {"AAAA": 160}, {}),
        ("stooq_5min_stripped_time/*", {"venue": "XNYS", "label": START}, {"AAAA.US": 160}, {}),
        ("mt5_tab_utf16/*", {"tz": "Etc/GMT-2", "label": START}, {"EURUSD": 48}, {}),
        ("partial_last_offgrid/*", {"venue": "XNYS"}, {"AAAA": 161}, {"on the time grid": 1}),
        ("ragged_extra_field/*", {"venue": "XNYS"}, {"AAAA": 12},
         {"as many fields as the header": 1}),
        ("two_digit_year_us/*", {"venue": "XNYS"}, {"AAAA": 20}, {}),
        ("yf_live_row/*", {"venue": "XNYS"}, {"AAAA": 12}, {"on the time grid": 1}),
        ("yf_multiindex_one/*", {"venue": "XNYS"}, {"AAAA": 12}, {}),
        ("yf_multiindex_two_map/*", {"venue": "XNYS"}, {"AAAA": 12, "BBBB": 12}, {}),
        ("yf_multiindex_two_map/*", {"venue": "XNYS", "columns": {"timestamp": "Price"}},
         {"AAAA": 12, "BBBB": 12}, {}),
        ("yyyymmdd_one_bad/*", {"venue": "XNYS"}, {"AAAA": 20}, {"parsable time": 1}),
        ("amount_overflows/*", {"venue": "XNYS"}, {"AAA": 19}, {"finite": 1}),
        ("hl_swapped_tick_rounding/*", {"venue": "XNYS"}, {"AAAA": 12}, {}),
    ],
)  # fmt: skip
def test_what_goes_in(
    store: Path,
    files: str,
    options: dict[str, Any],
    bars: dict[str, int],
    quarantined: dict[str, int],
) -> None:
    done = load(store, files, **options)
    assert done.counts == bars
    assert done.report.quarantined == quarantined


@pytest.mark.parametrize(
    ("files", "first"),
    [
        ("compact_yyyymmddhhmmss/*", datetime(2024, 1, 2, 9, 30)),
        ("ibkr_named_zone/*", datetime(2024, 1, 2, 9, 30)),
        ("offset_two_digits/*", datetime(2024, 1, 2, 9, 30)),
        ("stooq_5min_stripped_time/*", datetime(2024, 1, 2, 9, 30)),
    ],
)
def test_stamps_are_new_york_time(store: Path, files: str, first: datetime) -> None:
    done = load(store, files, venue="XNYS", label=START)
    assert done.labels[0] == first
    assert done.history.spec.freq == "5min"
    assert done.bars["close_utc"][0] == datetime(2024, 1, 2, 14, 35, tzinfo=UTC)


def test_a_unit_that_changes_inside_a_file(store: Path) -> None:
    done = load(store, "binance_ms_then_us/*", venue="24/7", label=START)
    first = datetime(2024, 12, 31, 12)
    assert done.labels == [first + timedelta(hours=i) for i in range(24)]


def test_two_digit_years_are_of_this_century(store: Path) -> None:
    done = load(store, "two_digit_year_us/*", venue="XNYS")
    assert (done.labels[0], done.labels[-1]) == (datetime(2024, 1, 2), datetime(2024, 1, 30))


def test_the_volume_of_the_base_coin(store: Path) -> None:
    done = load(store, "cryptodatadownload_eth/*", venue="24/7", label=START)
    assert done.bars["volume"].head(2).to_list() == [1000.0, 1037.0]
    assert done.bars["amount"][0] == 2_000_000.0


def test_bars_of_another_step_are_refused(store: Path) -> None:
    load(store, "daily_into_hourly_store/first/*", venue="24/7", label=START)
    before = MarketHistory.open(store).version
    with pytest.raises(SourceError, match=r"BTCUSDT\.csv: bars of BTCUSDT are 1d apart, the store "
                       "holds 1h"):  # fmt: skip
        load(store, "daily_into_hourly_store/BTCUSDT.csv")
    assert MarketHistory.open(store).version == before


def test_two_steps_in_one_folder_are_refused(store: Path) -> None:
    with pytest.raises(SourceError, match=r"BTCUSDT_1d\.csv: bars of BTCUSDT are 1d apart.* 1h"):
        load(store, "mixed_freq_folder", venue="24/7", label=START)
    assert not store.exists()


def test_a_comma_that_can_be_two_things_is_asked_about(store: Path) -> None:
    options = {"venue": "XFRA", "columns": {"timestamp": "Datum"}}
    with pytest.raises(SourceError, match="say --decimal , or --thousands ,"):
        load(store, "decimal_comma_3/*", **options)
    done = load(store, "decimal_comma_3/*", decimal=",", **options)
    assert done.first() == (147.0, 147.295, 146.705, 147.0)


def test_decimal_comma_with_points_between_thousands(store: Path) -> None:
    done = load(store, "decimal_comma_thousand_dot/*", venue="XFRA")
    assert done.first() == (1500.0, 1503.01, 1496.99, 1500.0)
    assert done.bars["volume"][0] == 1_000_000.0
    assert done.labels[0] == datetime(2024, 1, 2)


def test_quoted_thousands(store: Path) -> None:
    done = load(store, "quoted_commas_header_lost/*", venue="XTKS")
    assert done.counts == {"N225": 12}
    assert done.first() == (38000.0, 38076.01, 37923.99, 38000.0)
    assert done.bars["volume"][0] == 100_000_000.0


def test_indian_grouping(store: Path) -> None:
    assert load(store, "indian_volume_only/*", venue="XBOM").bars["volume"][0] == 1_000_000.0


def test_missing_volumes_do_not_cost_a_bar(store: Path) -> None:
    done = load(store, "missing_markers2/*", venue="XNYS")
    assert done.counts == {"AAAA": 12}
    known = {date(2024, 1, 11): 1000.0, date(2024, 1, 12): 1234.0, date(2024, 1, 18): 5.0}
    assert dict(done.bars.filter(pl.col("volume") > 0).select("session", "volume").rows()) == known
    assert "9 bars have no volume" in done.notes


def test_the_hour_that_clocks_show_twice_stays_apart(store: Path) -> None:
    done = load(store, "dst_fall_epoch_ny/*", venue="24/7", tz="America/New_York", label=START)
    assert done.bars.height == 30
    assert (done.bars["close_utc"].diff().drop_nulls() == timedelta(hours=1)).all()
    series = done.history.series()[0]
    assert (np.diff(series.close_utc_N) == np.timedelta64(1, "h")).all()
    assert import_files([HERE / "dst_fall_epoch_ny"], store).nothing_new


def test_labels_without_an_offset_are_wall_time(store: Path) -> None:
    done = load(store, "mixed_offset_and_naive/*", venue="XNYS", label=START)
    clocks = done.bars["timestamp"].dt.time()
    assert done.bars.height == 156
    assert (str(clocks.min()), str(clocks.max())) == ("09:30:00", "15:55:00")
    assert "read as wall time in America/New_York" in done.notes


def test_one_series_of_a_share(store: Path) -> None:
    done = load(store, "nse_bhavcopy_series/*", venue="XNSE")
    assert done.counts == {"IRFZ": 12}
    assert done.bars["close"].max() < 140
    assert done.bars["volume"][0] == 100_000.0
    assert "12 rows of other series than EQ" in done.notes
    assert "venue XNSE keeps the calendar XBOM" in done.notes


def test_daily_labels_in_utc_need_a_place(store: Path) -> None:
    with pytest.raises(SourceError, match=r"18:30:00 UTC; say .* --venue or --tz"):
        load(store, "parquet_tz_daily_utcstored_novenue/*")
    done = load(store, "parquet_tz_daily_utcstored_novenue/*", tz="Asia/Kolkata")
    assert done.labels[0] == datetime(2024, 1, 2)


def test_a_live_row_is_no_bar(store: Path, tmp_path: Path) -> None:
    done = load(store, "yf_live_row/*", venue="XNYS")
    labels = done.bars["timestamp"].to_numpy()
    future = future_timestamps(done.history.spec, labels, 3)
    assert [str(each)[:16] for each in future] == [
        "2024-01-19T00:00", "2024-01-22T00:00", "2024-01-23T00:00"
    ]  # fmt: skip
    night = tmp_path / "AAAA.csv"
    night.write_text("Date,Open,High,Low,Close,Volume\n2024-01-19 13:42:07-05:00,40,41,39,40,7\n")
    report = import_files([night], store)
    assert (report.new_bars, report.quarantined) == (0, {"on the time grid": 1})


def test_days_the_venue_is_closed_are_counted(store: Path) -> None:
    done = load(store, "weekend_ffill_daily/*", venue="XNYS")
    assert "13 of 43 bars lie on days XNYS is closed" in done.notes
    with pytest.raises(SourceError, match=r"13 of 43 bars .*\(30%, allowed 10%\)"):
        load(store.parent / "other", "weekend_ffill_daily/*", venue="XNYS", max_closed=0.1)
    assert not (store.parent / "other").exists()


def test_a_split_in_raw_prices_is_listed(store: Path) -> None:
    done = load(store, "raw_split/*", venue="XNYS", price_basis="raw")
    assert "AAAA falls 75% on 2024-02-07 at 4.1x volume, looks like a 4:1 split" in done.notes


@pytest.mark.parametrize("name", ["bars", "bars_1677", "bars_9999"])
@pytest.mark.parametrize("venue", ["XNYS", None])
def test_far_dates_go_to_quarantine(store: Path, name: str, venue: str | None) -> None:
    done = load(store, f"far_dates_end_in_a_traceback/{name}.csv", venue=venue)
    assert done.report.quarantined == {"parsable time": 1}
    assert done.bars.height == 19


@pytest.fixture
def until_january(store: Path, tmp_path: Path) -> Path:
    """A daily XNYS store of 20 symbols that ends on 2017-01-31."""
    days = [datetime(2017, 1, d) for d in (25, 26, 27, 30, 31)]
    rows = [
        {"symbol": f"SYM{i:02d}", "timestamp": day, "open": 10.0 + i, "high": 10.5 + i,
         "low": 9.5 + i, "close": 10.2 + i, "volume": 1000.0}
        for i in range(20) for day in days
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(tmp_path / "before.parquet")
    import_files([tmp_path / "before.parquet"], store, ImportOptions(venue="XNYS"))
    return store


def test_one_bad_date_moves_no_other(until_january: Path) -> None:
    done = load(until_january, "one_bad_date_moves_a_night/night.csv")
    assert done.report.new_bars == 19
    assert done.report.quarantined == {"parsable time": 1}
    assert done.history.sessions()[-1] == date(2017, 2, 1)
    assert "201702010" in done.history.quarantine()["detail"][0]


@pytest.mark.parametrize("slip", ["0", "99999999", "20170230"])
def test_other_slips_move_no_other(until_january: Path, tmp_path: Path, slip: str) -> None:
    night = (HERE / "one_bad_date_moves_a_night/night.csv").read_text()
    (tmp_path / "night.csv").write_text(night.replace("201702010", slip))
    report = import_files([tmp_path / "night.csv"], until_january)
    assert (report.new_bars, report.quarantined) == (19, {"parsable time": 1})


def test_one_second_moves_no_other(until_january: Path) -> None:
    done = load(until_january, "one_second_moves_a_night/night.csv")
    assert done.report.new_bars == 19
    assert done.report.quarantined == {"on the time grid": 1}
    assert done.history.sessions()[-1] == date(2017, 2, 1)


def test_a_session_has_one_bar(until_january: Path) -> None:
    load(until_january, "two_bars_in_one_session/d1.csv")
    with pytest.raises(Exception, match="20 bars differ from those in"):
        load(until_january, "two_bars_in_one_session/d2.csv")
    report = import_files(
        [HERE / "two_bars_in_one_session/d2.csv"], until_january, on_conflict="replace"
    )
    assert (report.new_bars, report.conflicts.height) == (0, 20)
    bars = MarketHistory.open(until_january).scan().collect()
    assert bars.select(pl.struct("symbol", "session").is_duplicated().any()).item() is False


def test_damaged_parquet_is_one_line(store: Path) -> None:
    with pytest.raises(
        SourceError, match=r"panic_in_parquet/bars\.parquet: cannot be read"
    ) as error:
        load(store, "panic_in_parquet/bars.parquet", venue="XNYS")
    assert "\n" not in str(error.value)
    assert not store.exists()


def test_times_of_the_year_twelve_million_are_no_times(store: Path) -> None:
    with pytest.raises(SourceError, match=r"panic_in_parquet/times\.parquet") as error:
        load(store, "panic_in_parquet/times.parquet", venue="XNYS")
    assert "\n" not in str(error.value)
    assert not store.exists()


@pytest.mark.parametrize(
    ("name", "column"),
    [("binary_symbol", "symbol"), ("bool_prices", "open"), ("date_prices", "open"),
     ("duration_prices", "open"), ("list_close", "close"), ("struct_close", "close"),
     ("time_volume", "volume")],
)  # fmt: skip
def test_types_that_hold_no_numbers_are_refused(store: Path, name: str, column: str) -> None:
    with pytest.raises(SourceError, match=rf"{name}\.parquet: column '{column}' is of type "):
        load(store, f"types_that_are_no_numbers/{name}.parquet", venue="XNYS")
    assert not store.exists()


def test_categories_are_text(store: Path) -> None:
    done = load(store, "types_that_are_no_numbers/categorical_close.parquet", venue="XNYS")
    assert done.bars.height > 0


@pytest.mark.parametrize("suffix", [".gz", ".zip", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_packing_and_encoding_change_nothing(
    store: Path, tmp_path: Path, suffix: str, encoding: str
) -> None:
    plain = (HERE / "ragged_extra_field/AAAA.csv").read_text().splitlines()[:-1]
    text = "Société générale: cours, €\n\n\n" + "\r\n".join(plain).replace(",", ";")
    packed = tmp_path / f"AAAA.csv{suffix}"
    _pack(packed, text.encode(encoding))
    report = import_files([packed], store, ImportOptions(venue="XNYS"))
    assert (report.new_bars, report.quarantined) == (12, {})


def _pack(path: Path, content: bytes) -> None:
    import bz2
    import gzip
    import lzma
    import zipfile

    import pyarrow as pa

    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("AAAA.csv", content)
    elif path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(content)
    else:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[path.suffix]
        path.write_bytes(pack(content))


def test_a_correction_beside_its_file_wins_as_it_does_afterwards(
    store: Path, tmp_path: Path
) -> None:
    for folder, close in (("a", "40.38"), ("b", "40.39")):
        (tmp_path / folder).mkdir()
        lines = (HERE / "banner_with_commas/AAAA.csv").read_text().splitlines()[1:]
        lines[-1] = lines[-1].replace(",40.38,", f",{close},")
        (tmp_path / folder / "AAAA.csv").write_text("\n".join(lines) + "\n")
    both = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(Exception, match="both hold AAAA 2024-01-18"):
        import_files(both, store, ImportOptions(venue="XNYS"))
    assert not store.exists()
    at_once = import_files(both, store, ImportOptions(venue="XNYS"), on_conflict="replace")
    assert (at_once.known_bars, at_once.conflicts.height, at_once.quarantined) == (11, 1, {})
    later = tmp_path / "later"
    import_files(both[:1], later, ImportOptions(venue="XNYS"))
    import_files(both[1:], later, on_conflict="replace")
    one = MarketHistory.open(store).scan().collect().sort("timestamp")
    assert one.equals(MarketHistory.open(later).scan().collect().sort("timestamp"))
    assert one["close"][-1] == 40.39


def test_files_that_name_no_symbol_do_not_become_one(store: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(
            HERE / "hive_glob/lake/symbol=AAAA/part-0.parquet", tmp_path / folder / "part-0.parquet"
        )
    with pytest.raises(SourceError, match="would both become the symbol 'part-0'"):
        import_files([tmp_path / "*/part-0.parquet"], store, ImportOptions(venue="XNYS"))


def test_daily_nights_do_not_creep_into_an_hourly_store(store: Path, tmp_path: Path) -> None:
    """A bar a night shows no step; with the nights before it, it does."""
    load(store, "daily_into_hourly_store/first/*", venue="24/7", label=START)
    refused = 0
    for day in range(8, 16):
        night = tmp_path / "ETHUSDT.csv"
        night.write_text(
            f"timestamp,open,high,low,close\n2024-01-{day:02d},46000,46100,45900,46000\n"
        )
        try:
            import_files([night], store)
        except SourceError:
            refused += 1
    assert refused >= 4


def test_two_values_that_are_no_numbers_are_two_rows(store: Path, tmp_path: Path) -> None:
    """A row is told what is wrong with it, whichever of its values it is."""
    path = tmp_path / "AAAA.csv"
    path.write_text(
        "Date,Open,High,Low,Close,Volume\n2024-01-02,10,11,9,10,100\n2024-01-03,10,11,9,10.6💥8,1\n"
        "2024-01-04,10,11,9,10,5$5\n2024-01-05,10,11,9,10,1 2\n2024-01-08,10,11,9,10,100\n"
    )
    report = import_files([path], store, ImportOptions(venue="XNYS"))
    assert (report.new_bars, report.quarantined) == (2, {"finite": 3})
    details = MarketHistory.open(store).quarantine()["detail"].to_list()
    assert details == ["close is NaN", "volume is NaN", "volume is NaN"]
