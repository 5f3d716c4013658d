"""Reports: what was measured, for a terminal, a file, a person. Pure: results in, text out."""
