"""From target weights to fills and equity. Imports nothing of the rest of the backtest."""
