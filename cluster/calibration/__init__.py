"""Forecasts meet what happened: outcomes, the past that calibrates, and the job that makes it."""
