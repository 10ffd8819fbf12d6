"""The tear sheet: one self-contained HTML page per backtest. Draws results, computes none."""
