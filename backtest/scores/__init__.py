"""Where scores come from, and on which dates they decide."""
