"""What a bar consists of, in the order every array and table keeps. Imports nothing."""

PRICES = ("open", "high", "low", "close")
FEATURES = (*PRICES, "volume", "amount")
