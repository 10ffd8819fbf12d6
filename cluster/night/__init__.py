"""One night: import, quality, forecast, commit, publish, report."""
