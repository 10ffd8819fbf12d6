"""From stored series to batches of training windows. Knows no model and no loop."""
