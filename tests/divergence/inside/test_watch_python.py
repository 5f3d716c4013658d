"""Draws of `random`: noted with their line, and untouched by being noted."""

import copy
import os
import pickle
import random
import tempfile
import threading
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.watched import attributes, events_of, here, watched
from rectest.divergence.inside import watch_python

DRAWS = {
    "random": lambda rng: rng.random(),
    "getrandbits": lambda rng: rng.getrandbits(70),
    "randbytes": lambda rng: rng.randbytes(5),
    "randrange": lambda rng: rng.randrange(3, 90, 2),
    "randint": lambda rng: rng.randint(1, 6),
    "choice": lambda rng: rng.choice("abcdef"),
    "sample": lambda rng: rng.sample(range(100), 7),
    "choices": lambda rng: rng.choices([1, 2, 3], weights=[1, 2, 3], k=5),
    "shuffle": lambda rng: shuffled(rng),
    "uniform": lambda rng: rng.uniform(2, 3),
    "triangular": lambda rng: rng.triangular(0, 1, 0.2),
    "normalvariate": lambda rng: rng.normalvariate(0, 1),
    "gauss": lambda rng: rng.gauss(0, 1),
    "lognormvariate": lambda rng: rng.lognormvariate(0, 1),
    "expovariate": lambda rng: rng.expovariate(2),
    "vonmisesvariate": lambda rng: rng.vonmisesvariate(0, 1),
    "gammavariate": lambda rng: rng.gammavariate(2, 1),
    "betavariate": lambda rng: rng.betavariate(2, 1),
    "paretovariate": lambda rng: rng.paretovariate(2),
    "weibullvariate": lambda rng: rng.weibullvariate(1, 2),
}


class Halved(random.Random):
    """A user's generator: its own source, the library's distributions."""

    def random(self):
        """Half of what the library draws."""
        return super().random() / 2


class Counted(random.Random):
    """A user's generator of bits, without a state that the library knows."""

    bits = 0

    def getrandbits(self, k):
        """The next number."""
        self.bits += 1
        return self.bits % (1 << k)


class Secretive(random.Random):
    """A user's generator that does not show its state, and is made without the library's own steps."""

    def __init__(self):
        self.name = "secretive"

    def getstate(self):
        """Fails."""
        raise NotImplementedError


def shuffled(rng):
    items = list(range(20))
    rng.shuffle(items)
    return items


def drawn_from(rng, names):
    rng.seed(5)
    return [DRAWS[name](rng) for name in names], rng.getstate()


@pytest.fixture(autouse=True)
def _state_is_kept():
    """The tests' own global generator goes on where it was."""
    state = random.getstate()
    yield
    random.setstate(state)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("make", [lambda: random, lambda: random.Random(1)], ids=["module", "instance"])
def test_a_draw_is_noted_once_and_left_alone(tmp_path, name, make):
    """Whatever it calls inside, it is one draw of the function that the script called."""
    expected, found = drawn_from(make(), [name]), []

    events = events_of(tmp_path, lambda: found.append(drawn_from(make(), [name])), "python")

    draws = [event for event in events if event.kind == "draw"]
    assert [expected] == found
    assert 1 == len(draws)
    assert (1, name) == (draws[0].info["count"], draws[0].name.rpartition(".")[2])
    assert ("random" if make() is random else "random@") == draws[0].info["generator"].partition(__file__)[0]


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(DRAWS)), max_size=8))
def test_any_sequence_of_draws_is_the_same_stream(tmp_path_factory, names):
    """The watch draws nothing, and passes everything through."""
    expected = drawn_from(random, names)

    with watched(tmp_path_factory.mktemp("tape"), "python"):
        obtained = drawn_from(random, names)

    assert expected == obtained


def test_the_line_the_count_and_the_generator_are_told(tmp_path):
    """What a stray draw is found by."""
    sites = []

    def script():
        random.seed(3)
        sites.append(here(below=2))
        for _ in range(4):
            random.sample(range(9), 2)

    seed, draw = events_of(tmp_path, script, "python")

    assert ("seed", "random", {"value": 3, "how": "seeded"}) == (seed.kind, seed.name, seed.info)
    assert ("draw", "random.sample", sites[0]) == (draw.kind, draw.name, draw.site)
    assert ("random", 4) == (draw.info["generator"], draw.info["count"])


def test_what_is_drawn_shows_in_the_digest(tmp_path):
    """Equal seeds give equal digests; another list or another seed does not."""

    def digest(seed, items):
        def script():
            random.seed(seed)
            random.shuffle(items)

        return events_of(tmp_path / f"{seed}{len(items)}{len(list(tmp_path.iterdir()))}", script, "python")[-1]

    first, again, longer, other = (
        digest(1, [*range(9)]),
        digest(1, [*range(9)]),
        digest(1, [*range(8)]),
        digest(2, [*range(9)]),
    )

    assert first.digest == again.digest
    assert 3 == len({first.digest, longer.digest, other.digest})
    assert first.info["state"] == longer.info["state"] != other.info["state"]


def test_a_generator_without_a_seed_is_told_when_it_draws(tmp_path):
    """Its seed is null, and it stands before the draw."""

    def script():
        random.Random()  # never used
        random.Random().random()
        random.Random(7).random()

    unseeded, _, seeded, _ = events_of(tmp_path, script, "python")

    assert {"value": None, "how": "created"} == unseeded.info
    assert {"value": 7, "how": "created"} == seeded.info


def test_copies_are_no_unseeded_generators(tmp_path):
    """Copying and unpickling make a generator without a seed first; that is no entropy."""
    made = []

    def script():
        rng = random.Random(1)
        for other in (copy.copy(rng), copy.deepcopy(rng), pickle.loads(pickle.dumps(rng))):
            made.append(other.random())

    events = events_of(tmp_path, script, "python")

    assert [random.Random(1).random()] * 3 == made
    assert None not in [event.info["value"] for event in events if event.kind == "seed"]


@pytest.mark.parametrize("kind", [Halved, Counted])
def test_subclasses_with_their_own_source_work(tmp_path, kind):
    """They draw what they would, by the path that the library chose for them."""
    expected = [kind(3).random(), kind(3).randint(0, 99), kind(3).choice(range(50))]
    found = []

    def script():
        found.extend([kind(3).random(), kind(3).randint(0, 99), kind(3).choice(range(50))])

    events = events_of(tmp_path, script, "python")

    assert expected == found
    assert {"random.Random.randint", "random.Random.choice"} <= {event.name for event in events}


def test_a_generator_without_a_state_is_no_failure(tmp_path):
    """Its draws are noted all the same."""

    def script():
        Secretive().random()

    assert ["seed", "draw"] == [event.kind for event in events_of(tmp_path, script, "python")]


def test_the_library_s_own_generators_are_none_of_the_script(tmp_path):
    """Names of temporary files differ in each run, and nobody trains on them."""
    assert [] == events_of(tmp_path / "tape", lambda: tempfile.mkdtemp(dir=tmp_path), "python")


def test_threads_are_told_apart(tmp_path):
    """A draw within one thread's draw is hidden, another thread's is not."""

    def script():
        rngs = [random.Random(seed) for seed in range(4)]
        threads = [threading.Thread(target=lambda rng=rng: [rng.randint(0, 9) for _ in range(200)]) for rng in rngs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    draws = [event for event in events_of(tmp_path, script, "python") if event.kind == "draw"]

    assert [200] * 4 == [event.info["count"] for event in draws]


def test_a_fork_seeds_the_global_generator_anew(tmp_path):
    """The library does so in every child, from entropy; it is told when the child draws."""

    def script():
        random.seed(0)
        random.seed.__self__.seed.__wrapped__(random.seed.__self__)
        watch_python._after_fork()
        random.random()

    _, forked, _ = events_of(tmp_path, script, "python")

    assert {"value": None, "how": "entropy"} == forked.info


def test_a_pinned_library_starts_from_zero(tmp_path):
    """Both runs draw the same; a forked child, too."""
    found = []

    def script():
        found.append(random.random())
        watch_python._after_fork()
        found.append(random.random())

    events_of(tmp_path, script, "python", pins=["seed:random"])

    assert [random.Random(0).random()] * 2 == found


def test_a_pinned_line_gets_counted_seeds(tmp_path):
    """No entropy, no clock: 0 for the first generator made there, 1 for the next."""
    found, site = [], here(below=4, function="script")

    def script():
        for seed in (None, 99, os.urandom(4)):
            found.append(random.Random(seed).random())

    events = events_of(tmp_path, script, "python", pins=[f"site:{site}"])

    assert [random.Random(seed).random() for seed in (0, 1, 2)] == found
    assert [0, 1, 2] == [event.info["value"] for event in events if event.kind == "seed"]


def test_a_pinned_line_reseeds_with_counted_seeds(tmp_path):
    """A seed taken from a clock is replaced as well."""
    found, site = [], here(below=4, function="script")

    def script():
        for seed in (123, None):
            random.seed(seed)
            found.append(random.random())

    events_of(tmp_path, script, "python", pins=[f"site:{site}"])

    assert [random.Random(0).random(), random.Random(1).random()] == found


def test_everything_is_put_back(tmp_path):
    """Afterwards the modules hold the very objects that they held before."""
    owners = (random, random.Random, random.SystemRandom, os)
    before = attributes(*owners)

    with watched(tmp_path, "python"):
        kept = random.sample
        during = attributes(*owners)
    after = attributes(*owners)

    assert before.keys() == after.keys()
    assert [] == [name for name in before if before[name] is not after[name]]
    assert len([name for name in before if before[name] is not during[name]]) > 40
    assert 2 == len(kept(range(5), 2))


def test_an_error_of_the_script_stays_its_own(tmp_path):
    """A call that fails fails as before, and the next one is noted."""

    def script():
        with pytest.raises(IndexError):
            random.choice([])
        random.random()

    assert [0, 1] == [event.info["count"] for event in events_of(tmp_path, script, "python")]


def test_a_failure_of_the_watch_does_not_reach_the_script(tmp_path, monkeypatch):
    """It is noted once, and the numbers come as they would."""
    random.seed(0)
    expected = [random.random(), random.random()]
    random.seed(0)

    with watched(tmp_path, "python") as session:
        monkeypatch.setattr(session, "drawing", lambda *_, **__: 1 / 0)
        obtained = [random.random(), random.random()]

    assert expected == obtained


@pytest.mark.slow
def test_a_draw_costs_little(tmp_path):
    """Scripts draw by the million."""
    with watched(tmp_path, "python"):
        seconds = min(
            timeit.repeat("for _ in range(1000): draw()", number=20, repeat=5, globals={"draw": random.random})
        )

    assert seconds / 20_000 < 20e-6
