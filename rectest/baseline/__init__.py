"""Baselines: what the records of a system were, where that is stored, and how new records are judged against it."""
