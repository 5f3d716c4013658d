"""Python runs this at the start of every process of a watched command, because its folder stands on ``PYTHONPATH``."""
