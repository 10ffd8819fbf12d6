"""Command-line options that several commands share, said once. Knows typer and words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[Path | None, typer.Option(help="Folder of the history lake.")]
Forecasts = Annotated[Path | None, typer.Option(help="Folder of the forecast table.")]
Scores = Annotated[
    Path | None, typer.Option(help="CSV or Parquet of own scores, instead of forecasts.")
]
Momentum = Annotated[
    int | None, typer.Option(help="Score by the return over this many bars instead.")
]
