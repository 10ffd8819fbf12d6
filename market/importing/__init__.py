"""From files, queries and frames to checked bars."""
