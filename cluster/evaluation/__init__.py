"""Forecasts of a table judged by what happened: the job, its settings, its page."""
