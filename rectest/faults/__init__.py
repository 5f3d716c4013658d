"""Planted faults: what every check must notice, one catalogue per system."""
