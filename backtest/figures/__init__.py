"""What a backtest is measured by: figures of a book, of its scores, and of how many were tried."""
