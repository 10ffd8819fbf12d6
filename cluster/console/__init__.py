"""A console over a forecast table: pages, a JSON interface, and forecasts on demand."""
