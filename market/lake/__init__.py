"""The history lake: bars as they were imported, read as of a date and a version."""
