"""Draws of NumPy: noted with their line, and untouched by being noted."""

# ruff: noqa: NPY002  the legacy functions are what is tested

import copy
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.watched import attributes, events_of, here, watched

COMMON = {
    "beta": (2.0, 3.0, 4), "binomial": (9, 0.5, 4), "bytes": (5,), "chisquare": (2.0, 4), "choice": (9, 4),
    "dirichlet": ([1.0, 2.0], 3), "exponential": (1.0, 4), "f": (2.0, 3.0, 4), "gamma": (2.0, 1.0, 4),
    "geometric": (0.3, 4), "gumbel": (0.0, 1.0, 4), "hypergeometric": (5, 5, 3, 4), "laplace": (0.0, 1.0, 4),
    "logistic": (0.0, 1.0, 4), "lognormal": (0.0, 1.0, 4), "logseries": (0.5, 4), "multinomial": (9, [0.5, 0.5]),
    "multivariate_normal": ([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]), "negative_binomial": (3, 0.5, 4),
    "noncentral_chisquare": (2.0, 1.0, 4), "noncentral_f": (2.0, 3.0, 1.0, 4), "normal": (0.0, 1.0, 3),
    "pareto": (2.0, 4), "permutation": (9,), "poisson": (2.0, 4), "power": (2.0, 4), "random": (3,),
    "rayleigh": (1.0, 4), "standard_cauchy": (4,), "standard_exponential": (4,), "standard_gamma": (2.0, 4),
    "standard_normal": (3,), "standard_t": (3.0, 4), "triangular": (0.0, 0.5, 1.0, 4), "uniform": (0.0, 1.0, 4),
    "vonmises": (0.0, 1.0, 4), "wald": (1.0, 1.0, 4), "weibull": (2.0, 4), "zipf": (2.0, 4),
}  # fmt: skip
LEGACY = {**COMMON, "rand": (3,), "randint": (0, 9, 5), "randn": (3,), "random_sample": (3,), "tomaxint": (3,)}
MODERN = {
    **COMMON,
    "integers": (0, 9, 5),
    "multivariate_hypergeometric": ([3, 4], 2),
    "permuted": (np.arange(6),),
}
MODULE = [*(name for name in LEGACY if name != "tomaxint"), "ranf", "sample"]


@pytest.fixture(autouse=True)
def _state_is_kept():
    """The tests' own global generator goes on where it was."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def same(first, second):
    return pickle.dumps(first) == pickle.dumps(second)


def drawn(rng, name):
    """The values of one call, and the state after it."""
    arguments = {**MODERN, **LEGACY, "ranf": (3,), "sample": (3,)}[name]
    values = getattr(rng, name)(*arguments)
    state = rng.get_state(legacy=False) if hasattr(rng, "get_state") else rng.bit_generator.state
    return values, state


def check(tmp_path, call, name, generator):
    expected, found = call(), []

    events = events_of(tmp_path, lambda: found.append(call()), "numpy")

    draws = [event for event in events if event.kind == "draw"]
    assert same(expected, found[0])
    assert [name] == [event.name for event in draws]
    assert 1 == draws[0].info["count"]
    assert generator == draws[0].info["generator"].partition("@")[0]
    assert __file__ in draws[0].site


@pytest.mark.parametrize("name", MODERN)
def test_a_generator_s_draw_is_noted_once(tmp_path, name):
    """Whatever it calls inside, it is one draw, of the same numbers and state."""
    check(tmp_path, lambda: drawn(np.random.default_rng(5), name), f"numpy.random.Generator.{name}", "numpy")


@pytest.mark.parametrize("name", LEGACY)
def test_a_legacy_generator_s_draw_is_noted_once(tmp_path, name):
    """`RandomState` is still what scikit-learn takes."""
    check(tmp_path, lambda: drawn(np.random.RandomState(5), name), f"numpy.random.RandomState.{name}", "numpy")


@pytest.mark.parametrize("name", MODULE)
def test_a_global_draw_is_noted_once(tmp_path, name):
    """The functions of the module share one generator."""

    def call():
        np.random.seed(5)
        return drawn(np.random, name)

    shown = {"ranf": "random_sample", "sample": "random_sample"}.get(name, name)
    check(tmp_path, call, f"numpy.random.{shown}", "numpy")


def test_all_public_methods_are_watched():
    """A new NumPy may offer more."""
    others = {"bit_generator", "spawn", "shuffle", "get_state", "set_state", "seed", "random_integers"}

    for kind, known in ((np.random.Generator, MODERN), (np.random.RandomState, LEGACY)):
        assert set() == {name for name in dir(kind) if not name.startswith("_")} - set(known) - others


@pytest.mark.parametrize("make", [lambda: np.random.default_rng(1), lambda: np.random.RandomState(1)])
def test_a_shuffle_is_digested_by_what_it_leaves(tmp_path, make):
    """It returns nothing; the order is what matters."""

    def digest(run, items):
        return events_of(tmp_path / run, lambda: make().shuffle(items), "numpy")[-1].digest

    assert digest("a", np.arange(9)) == digest("b", np.arange(9)) != digest("c", np.arange(9) + 1)


def test_the_line_the_count_and_the_seed_are_told(tmp_path):
    """What a stray draw is found by."""
    sites = []

    def script():
        rng = np.random.default_rng()
        sites.append(here(below=2))
        for _ in range(3):
            rng.integers(0, 9, 4)
        np.random.seed(8)

    made, draw, seeded = events_of(tmp_path, script, "numpy")

    assert ("seed", {"value": None, "how": "created"}) == (made.kind, made.info)
    assert (sites[0], 3, made.name) == (draw.site, draw.info["count"], draw.info["generator"])
    assert made.digest == draw.info["state"]
    assert ("numpy", {"value": 8, "how": "seeded"}) == (seeded.name, seeded.info)


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: np.random.default_rng(7), 7),
        (lambda: np.random.default_rng(np.random.SeedSequence(7)), 7),
        (lambda: np.random.default_rng(np.random.PCG64(7)), 7),
        (lambda: np.random.Generator(np.random.Philox(7)), 7),
        (lambda: np.random.Generator(np.random.SFC64(7)), 7),
        (lambda: np.random.Generator(np.random.PCG64DXSM(7)), 7),
        (lambda: np.random.Generator(np.random.MT19937(7)), 7),
        (lambda: np.random.RandomState(7), 7),
        (lambda: np.random.default_rng(7).spawn(2)[1], "SeedSequence(7, spawn_key=(1,))"),
        (lambda: np.random.default_rng(), None),
        (lambda: np.random.default_rng(np.random.SeedSequence()), None),
        (lambda: np.random.Generator(np.random.PCG64()), None),
        (lambda: np.random.RandomState(), None),
        (lambda: np.random.default_rng().spawn(1)[0], None),
    ],
)
def test_where_a_seed_came_from(tmp_path, make, value):
    """A number, or null for what the operating system gave."""
    events = events_of(tmp_path, lambda: make().random(), "numpy")

    assert value == [event for event in events if event.kind == "seed"][-1].info["value"]


def test_reseeding_and_restoring_are_told(tmp_path):
    """Each is a seed, by number, null or state."""

    def script():
        state = np.random.get_state()
        np.random.seed()
        np.random.set_state(state)
        np.random.RandomState(0).seed(4)

    entropy, restored, _, seeded = events_of(tmp_path, script, "numpy")

    assert {"value": None, "how": "entropy"} == entropy.info
    assert (str, "seeded") == (type(restored.info["value"]), restored.info["how"])
    assert 4 == seeded.info["value"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda rng: pickle.loads(pickle.dumps(rng))])
@pytest.mark.parametrize("make", [lambda: np.random.default_rng(3), lambda: np.random.RandomState(3)])
def test_copies_are_watched_and_no_entropy(tmp_path, make, copied):
    """A copy draws what the original would; making it reads nothing from the operating system that counts."""
    expected, found = make().normal(size=3), []

    events = events_of(tmp_path, lambda: found.append(copied(make()).normal(size=3)), "numpy")

    assert same(expected, found[0])
    assert ["draw"] == [event.kind for event in events if event.kind not in ("seed",)]
    assert None not in [event.info["value"] for event in events if event.kind == "seed"]


def test_a_pickle_can_be_read_without_the_watch(tmp_path):
    """Checkpoints that are written under it are ordinary ones."""
    with watched(tmp_path, "numpy"):
        stored = pickle.dumps([np.random.default_rng(3), np.random.RandomState(3), np.random.PCG64(3)])

    assert [np.random.Generator, np.random.RandomState, np.random.PCG64] == [
        type(made) for made in pickle.loads(stored)
    ]


def test_classes_pass_for_the_originals(tmp_path):
    """Old and new generators are instances of what the module offers, and a user's subclass is its own."""
    old = np.random.default_rng(0), np.random.RandomState(0)

    with watched(tmp_path, "numpy"):

        class Own(np.random.Generator):
            extra = 1

        own, rng = Own(np.random.PCG64(1)), np.random.default_rng(1)
        checks = [isinstance(old[0], np.random.Generator), isinstance(old[1], np.random.RandomState)]
        checks += [isinstance(rng, np.random.Generator), type(rng) is np.random.Generator, isinstance(own, Own)]
        checks += [np.random.default_rng(rng) is rng, own.random() == np.random.Generator(np.random.PCG64(1)).random()]
        checks += [repr(rng).startswith("Generator(PCG64)"), not isinstance(rng, Own)]

    assert [True] * len(checks) == checks


def test_others_draw_from_the_watched_global_generator(tmp_path):
    """SciPy and scikit-learn take the module's own instance where they are given no generator."""
    util = pytest.importorskip("scipy._lib._util")
    np.random.seed(3)
    expected, found = np.random.normal(size=3), []
    np.random.seed(3)

    (draw,) = events_of(tmp_path, lambda: found.append(util.check_random_state(None).normal(size=3)), "numpy")

    assert same(expected, found[0])
    assert ("numpy.random.normal", "numpy") == (draw.name, draw.info["generator"])


@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.sampled_from(MODULE), max_size=6), before=st.integers(0, 1), after=st.integers(0, 1))
def test_the_global_stream_goes_on_across_the_watch(tmp_path_factory, names, before, after):
    """Its state, with the normal number that is kept for later, passes in and out."""

    def run():
        np.random.seed(1)
        np.random.randn(before)
        return [drawn(np.random, name)[0] for name in names]

    expected = [run(), np.random.randn(after), np.random.rand(2)]
    np.random.seed(1)
    np.random.randn(before)
    with watched(tmp_path_factory.mktemp("tape"), "numpy"):
        values = [drawn(np.random, name)[0] for name in names]
    obtained = [values, np.random.randn(after), np.random.rand(2)]

    assert same(expected, obtained)


def test_a_pinned_library_starts_from_zero(tmp_path):
    """The global generator only."""
    found = []

    events_of(tmp_path, lambda: found.append(np.random.rand(2)), "numpy", pins=["seed:numpy"])

    assert same(np.random.RandomState(0).rand(2), found[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: np.random.default_rng(seed),
        lambda seed: np.random.RandomState(seed),
        lambda seed: np.random.seed(seed) or np.random.mtrand._rand,
    ],
)
@pytest.mark.parametrize("seed", [None, 1234])
def test_a_pinned_line_gets_counted_seeds(tmp_path, make, seed):
    """In place of entropy, and of a seed that may come from a clock."""
    expected, found = [make(number).uniform(size=2) for number in (0, 1)], []
    site = f"{here().rpartition('.py:')[0]}.py:{make.__code__.co_firstlineno}:<lambda>"

    def script():
        for _ in range(2):
            found.append(make(seed).uniform(size=2))

    events_of(tmp_path, script, "numpy", pins=[f"site:{site}"])

    assert same(expected, found)


def test_everything_is_put_back(tmp_path):
    """Afterwards the modules hold the very objects that they held before."""
    names = ("random", "random.mtrand", "random._generator", "random._pickle", "random.bit_generator")
    owners = [sys.modules[f"numpy.{name}"] for name in names]
    before = attributes(*owners)

    with watched(tmp_path, "numpy"):
        np.random.set_state(np.random.get_state())
        kept = np.random.default_rng(1)
        during = attributes(*owners)
    after = attributes(*owners)

    assert [] == [name for name in before if before[name] is not after[name]]
    assert len([name for name in before if before[name] is not during[name]]) > 90
    assert np.random.default_rng(1).random() == kept.random()
