"""Entropy past every generator: noted where the script asks for it, held still where that is pinned."""

import builtins
import copy
import datetime as dt
import multiprocessing.process
import os
import random
import secrets
import time
import uuid
from dataclasses import dataclass

import pytest

from fixtures.watched import attributes, events_of, here
from rectest.divergence.inside.entropy import _judge

READS = {
    "os.urandom": lambda: os.urandom(4),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "uuid.uuid1": lambda: uuid.uuid1(),
    "time.time": lambda: time.time(),
    "time.time_ns": lambda: time.time_ns(),
    "time.perf_counter": lambda: time.perf_counter(),
    "time.monotonic": lambda: time.monotonic(),
    "os.getpid": lambda: os.getpid(),
    "random.SystemRandom": lambda: random.SystemRandom().sample(range(1000), 3),
    "secrets": lambda: secrets.token_hex(4),
}


@dataclass(frozen=True)
class Item:
    """Hashable by its texts, as keys of dictionaries are."""

    name: str


class Named:
    """Hashable by a method of its own."""

    def __hash__(self):
        return hash("name")


@pytest.mark.parametrize("name", READS)
def test_a_read_is_noted_with_its_line_and_count(tmp_path, name):
    """One event a line and step, whatever the library calls inside."""

    def script():
        for _ in range(3):
            READS[name]()

    (event,) = events_of(tmp_path, script, "python")

    assert ("entropy", name, {"count": 3}) == (event.kind, event.name, event.info)
    assert __file__ in event.site
    assert 32 == len(event.digest)


@pytest.mark.parametrize(
    "call", [lambda: secrets.choice([1, 2]), lambda: secrets.randbelow(9), lambda: secrets.token_urlsafe()]
)
def test_secrets_have_one_name(tmp_path, call):
    """They all read the operating system's entropy."""
    assert ["secrets"] == [event.name for event in events_of(tmp_path, call, "python")]


def test_what_the_library_reads_for_itself_is_left_out(tmp_path):
    """Timestamps of log records are no news."""
    import logging

    assert [] == events_of(tmp_path, lambda: logging.getLogger("x").makeRecord("x", 1, "f", 1, "", (), None), "python")


@pytest.mark.parametrize("value", ["abc", b"abc", ("a", 1), frozenset({"a"}), (1, ("x",))])
def test_a_salted_hash_is_noted(tmp_path, value):
    """Texts hash differently in each process."""
    expected, found = hash(value), []

    (event,) = events_of(tmp_path, lambda: found.append(hash(value)), "python")

    assert [expected] == found
    assert ("hash", {"count": 1}) == (event.kind, event.info)


@pytest.mark.parametrize("call", [lambda: hash(3), lambda: hash((1, 2.5)), lambda: {Item("a"): 1}, lambda: {Named()}])
def test_other_hashes_are_not(tmp_path, call):
    """Numbers hash alike everywhere; keys of dictionaries are looked up, not computed with."""
    assert [] == events_of(tmp_path, call, "python")


@pytest.mark.parametrize("name", READS)
def test_a_pinned_line_reads_the_same_in_every_run(tmp_path, name):
    """What it gets is counted: it differs from read to read, not from run to run."""
    runs, site = [], here(below=5, function="script")

    def script():
        values = []
        for _ in range(3):
            values.append(read())
        runs.append(values)

    read = eval(SOURCES[name], globals())
    for run in "ab":
        events_of(tmp_path / run, script, "python", pins=[f"site:{site}"])

    assert runs[0] == runs[1]
    assert len(set(map(str, runs[0]))) == (1 if name == "os.getpid" else 3)


SOURCES = {
    **{name: f"lambda: {name}()" for name in READS if name.startswith(("time.", "uuid.")) or name == "os.getpid"},
    "os.urandom": "lambda: os.urandom(4)",
    "secrets": "lambda: secrets.token_hex(4)",
    "random.SystemRandom": "lambda: random.SystemRandom().sample(range(1000), 3)",
}
"""As text, so that the line that asks is the test's own: code without a file is looked through."""


def test_a_pinned_clock_and_uuid_are_well_formed(tmp_path):
    """Scripts compute with them."""
    found, site = [], here(below=3, function="script")

    def script():
        found.extend([uuid.uuid4(), uuid.uuid1(), time.time(), time.time_ns()])

    events_of(tmp_path, script, "python", pins=[f"site:{site}"])
    fourth, first, seconds, nanoseconds = found

    assert (4, 1) == (fourth.version, first.version)
    assert 2020 < dt.datetime.fromtimestamp(seconds, tz=dt.UTC).year < 2030
    assert 0 < nanoseconds / 1e9 - seconds < 1


def test_a_pinned_process_id_can_signal_nobody(tmp_path):
    """A script that kills itself must not kill another."""
    found, site = [], here(below=3, function="script")

    def script():
        found.append(os.getpid())

    events_of(tmp_path, script, "python", pins=[f"site:{site}"])

    with pytest.raises(ProcessLookupError):
        os.kill(found[0], 0)


def test_everything_is_put_back(tmp_path):
    """Afterwards the modules hold the very objects that they held before."""
    owners = (os, uuid, secrets, time, builtins, random)
    before = attributes(*owners)

    events_of(tmp_path, lambda: None, "python")

    assert [] == [name for name, value in attributes(*owners).items() if value is not before.get(name)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (os.__file__, "stdlib"),
        (random.__file__, "through"),
        (copy.__file__, "carrier"),
        (multiprocessing.process.__file__, "carrier"),
        ("<string>", "through"),
        ("<frozen importlib._bootstrap>", "stdlib"),
        ("/venv/lib/site-packages/torch/utils/data.py", "library"),
        ("/venv/lib/site-packages/tqdm/std.py", "script"),
        ("/home/user/train.py", "script"),
    ],
)
def test_who_asks(path, expected):
    """By the file of the code that calls."""
    assert expected == _judge(path)
