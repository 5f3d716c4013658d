"""Getting MovieLens-100K, with tiny fake wheels whose digest is planted; the real download is a slow test."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from rectest.data import movielens
from rectest.data.movielens import data_dir, fetch_ml100k, load_ml100k
from rectest.errors import DataError

ROWS = b"96\t42\t3\t981250949\n86\t52\t3\t991717742\n22\t42\t1\t978887116\n"
CONTENT = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + ROWS
MEMBER = "recbole/dataset_example/ml-100k/ml-100k.inter"


def write_wheel(path, member=MEMBER, content=CONTENT):
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
    return path


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """The content above counts as the real data; neither RecBole nor the network is there."""
    monkeypatch.setattr(movielens, "ML100K_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(movielens, "_SHAPE", (3, 2, 3))

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    def offline(*args, **options):
        pytest.fail("pip was called")

    monkeypatch.setattr(movielens.metadata, "distribution", absent)
    monkeypatch.setattr(movielens.subprocess, "run", offline)
    return tmp_path


def pip_that(monkeypatch, *, returncode=0, stderr="", wheel=True, content=CONTENT):
    commands = []

    def run(command, **options):
        commands.append(command)
        if wheel:
            write_wheel(Path(command[command.index("--dest") + 1]) / "recbole-1.2.1-py3-none-any.whl", content=content)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(movielens.subprocess, "run", run)
    return commands


@pytest.mark.parametrize("form", ["inter", "udata", "directory", "udata_directory", "wheel"])
def test_every_form_of_the_data_gives_the_same_bytes(fake, form):
    source = fake / "source"
    source.mkdir()
    if form == "wheel":
        path = write_wheel(source / "recbole.whl")
    else:
        path = source / ("u.data" if "udata" in form else "ml-100k.inter")
        path.write_bytes(ROWS if "udata" in form else CONTENT)
    obtained = fetch_ml100k(source if "directory" in form else path, fake / "cache")

    assert obtained == fake / "cache" / "ml-100k.inter"
    assert obtained.read_bytes() == CONTENT
    assert [entry.name for entry in obtained.parent.iterdir()] == ["ml-100k.inter"]


def test_the_cached_world_has_numeric_id_order_and_ratings(fake):
    fetch_ml100k(write_wheel(fake / "a.whl"), fake / "cache")
    world = load_ml100k(fake / "cache")

    assert world.name == "ml-100k"
    assert world.users.raws == ("22", "86", "96")
    assert world.items.raws == ("42", "52")
    assert world.interactions.rating.tolist() == [3.0, 3.0, 1.0]
    assert world.interactions.time.tolist() == [981250949, 991717742, 978887116]
    assert world.oracle is None


def test_pip_is_asked_when_nothing_is_installed(fake, monkeypatch):
    commands = pip_that(monkeypatch)
    obtained = fetch_ml100k(None, fake / "cache")

    assert obtained.read_bytes() == CONTENT
    assert commands[0][1:5] == ["-m", "pip", "download", "--no-deps"]
    assert commands[0][-1] == "recbole==1.2.1"
    fetch_ml100k(None, fake / "cache")
    assert len(commands) == 1


def test_a_damaged_cache_is_replaced(fake, monkeypatch):
    pip_that(monkeypatch)
    target = fake / "cache" / "ml-100k.inter"
    target.parent.mkdir()
    target.write_bytes(CONTENT[:-5])
    with pytest.raises(DataError, match="damaged, or another version of the data; fetch it anew"):
        load_ml100k(fake / "cache")

    assert fetch_ml100k(None, fake / "cache").read_bytes() == CONTENT


def test_an_installed_recbole_is_used_without_importing_it(fake, monkeypatch):
    installed = fake / "site" / MEMBER
    installed.parent.mkdir(parents=True)
    installed.write_bytes(CONTENT)

    class Distribution:
        def locate_file(self, member):
            return fake / "site" / member

    monkeypatch.setattr(movielens.metadata, "distribution", lambda _: Distribution())

    assert fetch_ml100k(None, fake / "cache").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("pip", "problem"),
    [
        ({"returncode": 1, "stderr": "a\nERROR: No matching distribution", "wheel": False}, "No matching distribution"),
        ({"wheel": False}, "no wheel came"),
        ({"content": CONTENT + b"1\t2\t3\t4\n"}, "SHA-256"),
    ],
)
def test_failed_downloads_say_why_and_leave_no_cache(fake, monkeypatch, pip, problem):
    pip_that(monkeypatch, **pip)
    with pytest.raises(DataError, match=problem):
        fetch_ml100k(None, fake / "cache")

    assert not (fake / "cache").exists()


def test_a_pip_that_hangs_is_a_data_error(fake, monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, 300)

    monkeypatch.setattr(movielens.subprocess, "run", hang)
    with pytest.raises(DataError, match="when offline, pass the path"):
        fetch_ml100k(None, fake / "cache")


def test_bad_paths_say_what_was_needed(fake):
    with pytest.raises(DataError, match="does not exist; pass the path of"):
        fetch_ml100k(fake / "absent.inter", fake / "cache")
    (fake / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds neither ml-100k\.inter nor u\.data"):
        fetch_ml100k(fake / "empty", fake / "cache")
    with pytest.raises(DataError, match="has no member"):
        fetch_ml100k(write_wheel(fake / "other.whl", member="else.txt"), fake / "cache")
    (fake / "broken.whl").write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match="is no readable wheel"):
        fetch_ml100k(fake / "broken.whl", fake / "cache")


def test_a_damaged_member_is_a_data_error(fake):
    path = write_wheel(fake / "damaged.whl")
    path.write_bytes(path.read_bytes().replace(b"981250949", b"981250948"))
    with pytest.raises(DataError, match="is no readable wheel"):
        fetch_ml100k(path, fake / "cache")


def test_an_interrupted_write_leaves_the_old_file(fake, monkeypatch):
    target = fake / "cache" / "ml-100k.inter"
    target.parent.mkdir()
    target.write_bytes(b"old")

    def fail(self, other):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(movielens.Path, "replace", fail)
    with pytest.raises(DataError, match="cannot be written"):
        fetch_ml100k(write_wheel(fake / "a.whl"), fake / "cache")

    assert target.read_bytes() == b"old"
    assert [entry.name for entry in target.parent.iterdir()] == ["ml-100k.inter"]


def test_wrong_counts_are_refused(fake, monkeypatch):
    fetch_ml100k(write_wheel(fake / "a.whl"), fake / "cache")
    monkeypatch.setattr(movielens, "_SHAPE", (943, 1682, 100_000))
    with pytest.raises(DataError, match="users, items and rows, needed"):
        load_ml100k(fake / "cache")


def test_the_cache_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RECTEST_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.delenv("RECTEST_DATA")
    assert data_dir() == Path.home() / ".cache" / "rectest"


@pytest.mark.slow
def test_the_real_data(tmp_path):
    fetch_ml100k(None, tmp_path)
    world = load_ml100k(tmp_path)
    liked = world.interactions.select(world.interactions.rating >= 4)

    assert (world.num_users, world.num_items, len(world.interactions)) == (943, 1682, 100_000)
    assert world.items.raw(1682) == "1682"
    assert len(liked) == 55_375
    assert int((liked.user_counts() >= 5).sum()) == 938
