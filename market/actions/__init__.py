"""Splits and dividends: kept beside raw bars, applied as known at a date, and looked for."""
