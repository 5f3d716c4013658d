"""Getting MovieLens-100K, with tiny fake wheels whose digest is planted; the real download is a slow test."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from rectest.data import movielens
from rectest.data.movielens import data_dir, fetch_ml100k, film_file, load_ml100k
from rectest.errors import DataError

ROWS = b"96\t42\t3\t981250949\n86\t52\t3\t991717742\n22\t42\t1\t978887116\n"
CONTENT = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + ROWS
FOLDER = "recbole/dataset_example/ml-100k/"
FLAGS = "|".join(str(int(genre in (5, 8))) for genre in range(19))
UITEM = f"42|Clerks (1994)|01-Jan-1994||http://x|{FLAGS}\n52|unknown||||{FLAGS}\n".encode("latin-1")
FILMS = (
    b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    b"42\tClerks\t1994\tComedy Drama\n52\tunkonwn\tunkonwn\tComedy Drama\n"
)
WORDS = (("clerks", "genre:comedy", "genre:drama", "decade:1990s"), ("unkonwn", "genre:comedy", "genre:drama"))
BOTH = {"ml-100k.inter": CONTENT, "ml-100k.item": FILMS}


def write_wheel(path, contents=BOTH):
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in contents.items():
            wheel.writestr(FOLDER + name, content)
    return path


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """The content above counts as the real data; neither RecBole nor the network is there."""
    monkeypatch.setattr(movielens, "ML100K_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(movielens, "ML100K_ITEM_SHA256", hashlib.sha256(FILMS).hexdigest())
    monkeypatch.setattr(movielens, "_SHAPE", (3, 2, 3))

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    def offline(*args, **options):
        pytest.fail("pip was called")

    monkeypatch.setattr(movielens.metadata, "distribution", absent)
    monkeypatch.setattr(movielens.subprocess, "run", offline)
    return tmp_path


def pip_that(monkeypatch, *, returncode=0, stderr="", wheel=True, contents=BOTH):
    commands = []

    def run(command, **options):
        commands.append(command)
        if wheel:
            write_wheel(Path(command[command.index("--dest") + 1]) / "recbole-1.2.1-py3-none-any.whl", contents)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(movielens.subprocess, "run", run)
    return commands


@pytest.mark.parametrize("form", ["inter", "udata", "wheel"])
def test_a_file_of_events_alone_gives_the_same_bytes(fake, form):
    path = fake / {"inter": "ml-100k.inter", "udata": "u.data", "wheel": "recbole.whl"}[form]
    if form == "wheel":
        write_wheel(path, {"ml-100k.inter": CONTENT})
    else:
        path.write_bytes(ROWS if form == "udata" else CONTENT)
    obtained = fetch_ml100k(path, fake / "cache")

    assert obtained == fake / "cache" / "ml-100k.inter"
    assert obtained.read_bytes() == CONTENT
    assert names_in(obtained.parent) == ["ml-100k.inter"]
    assert film_file(obtained) is None


@pytest.mark.parametrize(
    "files",
    [{"ml-100k.inter": CONTENT, "ml-100k.item": FILMS}, {"u.data": ROWS, "u.item": UITEM}, {"wheel.whl": b""}],
    ids=["inter", "udata", "wheel"],
)
def test_films_come_with_the_events_in_every_form(fake, files):
    source = fake / "source"
    source.mkdir()
    for name, content in files.items():
        (source / name).write_bytes(content)
    wheel = source / "wheel.whl"
    obtained = fetch_ml100k(write_wheel(wheel) if wheel.exists() else source, fake / "cache")

    assert names_in(obtained.parent) == ["ml-100k.inter", "ml-100k.item"]
    assert film_file(obtained).read_bytes() == FILMS
    assert load_ml100k(obtained.parent).item_words == ((), *WORDS)


def test_a_folder_of_events_alone_is_enough(fake):
    (fake / "source").mkdir()
    (fake / "source" / "u.data").write_bytes(ROWS)
    world = load_ml100k(fetch_ml100k(fake / "source", fake / "cache").parent)

    assert world.item_words is None
    assert world.words() == ((), ("42",), ("52",))
    assert world.source.endswith(
        "no words of its films are cached, get the words of its films with: rectest data ml-100k"
    )


def test_an_older_cache_stays_valid_and_gets_the_films_on_the_next_fetch(fake, monkeypatch):
    cache = fake / "cache"
    fetch_ml100k(write_wheel(fake / "old.whl", {"ml-100k.inter": CONTENT}), cache)
    before = load_ml100k(cache)
    commands = pip_that(monkeypatch)
    after = load_ml100k(fetch_ml100k(None, cache).parent)

    assert before.item_words is None
    assert after.item_words == ((), *WORDS)
    assert before.digest == after.digest
    assert len(commands) == 1


def test_a_failed_download_leaves_an_older_cache_as_it_was(fake, monkeypatch):
    cache = fake / "cache"
    fetch_ml100k(write_wheel(fake / "old.whl", {"ml-100k.inter": CONTENT}), cache)
    pip_that(monkeypatch, returncode=1, stderr="ERROR: offline", wheel=False)
    with pytest.raises(DataError, match="ERROR: offline"):
        fetch_ml100k(None, cache)

    assert load_ml100k(cache).item_words is None


@pytest.mark.parametrize("form", ["folder", "wheel"])
def test_films_of_another_version_are_refused_and_nothing_is_written(fake, form):
    wrong = {"ml-100k.inter": CONTENT, "ml-100k.item": FILMS + b"1\ta\t1990\tDrama\n"}
    if form == "wheel":
        source = write_wheel(fake / "wrong.whl", wrong)
    else:
        source = fake / "source"
        source.mkdir()
        for name, content in wrong.items():
            (source / name).write_bytes(content)
    with pytest.raises(DataError, match=r"the SHA-256 of its ml-100k\.item is .* damaged, or another version"):
        fetch_ml100k(source, fake / "cache")

    assert not (fake / "cache").exists()


def test_damaged_films_in_the_cache_are_named_and_replaced(fake, monkeypatch):
    cache = fake / "cache"
    fetch_ml100k(write_wheel(fake / "a.whl"), cache)
    (cache / "ml-100k.item").write_bytes(FILMS[:-3])
    with pytest.raises(DataError, match=r"ml-100k\.item: its SHA-256 is .* fetch it anew"):
        load_ml100k(cache)
    pip_that(monkeypatch)

    assert load_ml100k(fetch_ml100k(None, cache).parent).item_words == ((), *WORDS)


def test_films_that_lack_one_of_the_items_are_refused(fake, monkeypatch):
    short = FILMS[: FILMS.index(b"52\t")]
    monkeypatch.setattr(movielens, "ML100K_ITEM_SHA256", hashlib.sha256(short).hexdigest())
    fetch_ml100k(write_wheel(fake / "a.whl", {**BOTH, "ml-100k.item": short}), fake / "cache")
    with pytest.raises(DataError, match="has no row for 1 of the films, 52 the first"):
        load_ml100k(fake / "cache")


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
    installed = fake / "site" / FOLDER
    installed.mkdir(parents=True)
    for name, content in BOTH.items():
        (installed / name).write_bytes(content)

    class Distribution:
        def locate_file(self, member):
            return fake / "site" / member

    monkeypatch.setattr(movielens.metadata, "distribution", lambda _: Distribution())

    assert fetch_ml100k(None, fake / "cache").read_bytes() == CONTENT
    assert names_in(fake / "cache") == ["ml-100k.inter", "ml-100k.item"]


@pytest.mark.parametrize(
    ("pip", "problem"),
    [
        ({"returncode": 1, "stderr": "a\nERROR: No matching distribution", "wheel": False}, "No matching distribution"),
        ({"wheel": False}, "no wheel came"),
        ({"contents": {"ml-100k.inter": CONTENT + b"1\t2\t3\t4\n"}}, "SHA-256"),
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
        fetch_ml100k(write_wheel(fake / "other.whl", {"else.txt": CONTENT}), fake / "cache")
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
    assert world.words()[318] == ("schindler's", "list", "genre:drama", "genre:war", "decade:1990s")
    assert world.words()[1412][-1] == "decade:1990s"
    assert int((liked.user_counts() >= 5).sum()) == 938
