"""Does anything look ahead? The future is poisoned, and nothing up to now may change."""
