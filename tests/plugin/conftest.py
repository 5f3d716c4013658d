"""Runs of pytest within these tests share what they import, and the server that trains for them."""

from __future__ import annotations

import pytest

from fixtures.inner import at_home


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """At home, so that the training children of all inner runs in this process are forks of one server."""
    at_home(monkeypatch)
    return pytester
