"""From scores to target weights: strategies, their weightings and their caps."""
