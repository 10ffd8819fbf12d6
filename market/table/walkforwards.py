"""Which model forecast which period: the record of a walk-forward. Knows rows, no models.

Each fold's model has seen bars up to `trained_through` and forecasts dates after it alone. Rows of
all folds together read as one model's, which is what a backtest trades.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from market.errors import StoreError
from market.storage import Folder

FORMAT = 1


def _place(path: str | Path) -> tuple[Folder, str]:
    folder, _, name = str(path).rpartition("/")
    return Folder(folder or "."), name


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FoldRecord(_Record):
    """One period: what was trained on, and what was forecast with it."""

    number: int
    train_from: date
    """First session of the training bars."""
    train_through: date
    """Last session of the training bars."""
    validation_through: date
    """Last session of the bars that chose among checkpoints, or only measured."""
    trained_through: date
    """Last date that had a say in the model's weights, those it began with included."""
    first_as_of: date
    last_as_of: date
    model: str
    """Folder of the fold's predictor."""
    model_id: str
    run_id: str
    forecasts: int
    figures: dict[str, float]
    """Of the training."""


class WalkForwardRecord(_Record):
    """The folds done so far, in time order."""

    format: int = FORMAT
    id: str
    """Hash of what the walk-forward is made of; stands for its models in a backtest."""
    identity: dict[str, Any]
    folds: tuple[FoldRecord, ...] = ()
    finished: bool = False

    @classmethod
    def read(cls, path: str | Path) -> WalkForwardRecord:
        """Of a path or URL. Raises StoreError where there is no readable record."""
        try:
            folder, name = _place(path)
            return cls.model_validate_json(folder.read(name))
        except FileNotFoundError:
            raise StoreError(
                f"{path}: no such file; 'candlecast train walkforward' writes one"
            ) from None
        except (ValidationError, OSError) as error:
            raise StoreError(
                f"{path}: not a walk-forward's record ({type(error).__name__}); run the same "
                "'candlecast train walkforward' again"
            ) from error

    def write(self, path: str | Path) -> None:
        """Replaces the file in one move."""
        folder, name = _place(path)
        folder.write(name, self.model_dump_json(indent=1).encode())

    def select(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """The folds' rows of a table, under the record's id as their model.

        Raises StoreError where a fold's rows are gone, or one is not after its model's cut-off.
        """
        if not self.folds:
            raise StoreError("the walk-forward has no finished fold yet; run it to its end")
        through = {fold.run_id: fold.trained_through for fold in self.folds}
        found = rows.filter(pl.col("run_id").is_in(list(through))).collect()
        present = set(found["run_id"].unique())
        for fold in self.folds:
            if fold.run_id not in present:
                raise StoreError(
                    f"fold {fold.number} ({fold.first_as_of} to {fold.last_as_of}): the table "
                    f"holds no row of its run {fold.run_id}; run the same 'candlecast train "
                    "walkforward' again"
                )
        seen = found.filter(
            pl.col("as_of_date") <= pl.col("run_id").replace_strict(through, return_dtype=pl.Date)
        )
        if seen.height:
            row = seen.row(0, named=True)
            raise StoreError(
                f"{row['symbol']}: the forecast of {row['as_of_date']} was made by a model that "
                f"had seen bars up to {through[row['run_id']]}; such a row proves nothing. Run the "
                "walk-forward again in a new table."
            )
        return found.with_columns(pl.lit(self.id).alias("model_id"))
