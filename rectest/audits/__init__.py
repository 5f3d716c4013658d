"""Audits: files that training left or was given, read safely and judged by the checks of the gate.

Each kind of artefact has a reader, which turns a file into arrays, and a function that asks the checks; `report.py`
owns what all audits give back, `theory/` why each check is right.
"""
