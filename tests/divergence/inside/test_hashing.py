"""Which hash function a tape gets: the environment's xxhash, a borrowed one, or the standard library's."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from rectest.divergence.inside import hashing
from rectest.divergence.inside.digests import digest_value
from rectest.divergence.inside.hashing import BORROWED, algorithm, digest_bytes, new_hasher

OWN = Path(xxhash.__file__).parent


@pytest.fixture
def without_xxhash(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment in which xxhash is not installed and nothing was chosen yet."""
    monkeypatch.setitem(sys.modules, "xxhash", None)
    monkeypatch.setattr(hashing, "_chosen", [])
    monkeypatch.delenv(BORROWED, raising=False)
    yield monkeypatch
    for name in [name for name in sys.modules if name.partition(".")[0] == hashing._PRIVATE]:
        del sys.modules[name]


def test_the_environments_own_is_taken() -> None:
    assert algorithm() == "xxh3_128"
    assert xxhash.xxh3_128_digest(b"a") == digest_bytes(b"a")


def test_one_that_fits_is_borrowed_and_gives_the_same_digests(without_xxhash: pytest.MonkeyPatch) -> None:
    without_xxhash.setenv(BORROWED, str(OWN))

    assert algorithm() == "xxh3_128"
    assert xxhash.xxh3_128_digest(b"a") == digest_bytes(b"a")
    assert sys.modules["xxhash"] is None


@pytest.mark.parametrize("what", ["absent", "of another interpreter", "broken"])
def test_else_the_standard_library_serves(without_xxhash: pytest.MonkeyPatch, tmp_path: Path, what: str) -> None:
    if what != "absent":
        without_xxhash.setenv(BORROWED, str(tmp_path))
        (tmp_path / "__init__.py").write_text("raise ImportError('broken')")
        suffix = ".cpython-36m-other.so" if what == "of another interpreter" else hashing.EXTENSION_SUFFIXES[0]
        (tmp_path / f"_xxhash{suffix}").write_bytes(b"")

    assert algorithm() == "sha256-128"
    assert hashlib.sha256(b"ab").digest()[:16] == digest_bytes(b"ab")
    assert new_hasher(b"ab").hexdigest() == digest_bytes(b"ab").hex()
    assert digest_value([1, 2]) != digest_value([2, 1])
    assert not any(name.startswith(hashing._PRIVATE) for name in sys.modules)


def test_pieces_are_hashed_as_the_whole(without_xxhash: pytest.MonkeyPatch) -> None:
    hasher = new_hasher(b"a")
    hasher.update(b"b")

    assert new_hasher(b"ab").hexdigest() == hasher.hexdigest()
