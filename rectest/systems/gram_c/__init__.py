"""Generative retrieval over hierarchical item ids with a collaborative prefix (report 003); see `system`."""
