"""Checks: pure functions from records or arrays to `CheckResult`s; one file per property family."""
