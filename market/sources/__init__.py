"""Bars over the network, through libraries that are installed only where they are wanted."""
