"""Names of generators, and their states."""

import gc
import random

import numpy as np
import torch

from rectest.divergence.inside.generators import Names, passing_subclass, state_digest


def test_a_name_is_made_of_line_and_number():
    """The name is equal in another run, whatever else that run makes first."""
    names, first, second, other = Names(), random.Random(0), random.Random(0), random.Random(0)

    obtained = [names.add(generator, "random", site).name for generator, site in (
        (first, "a.py:3:f"), (other, "b.py:1:g"), (second, "a.py:3:f"))]  # fmt: skip

    assert ["random@a.py:3#1", "random@b.py:1#1", "random@a.py:3#2"] == obtained
    assert names.get(second) is not None


def test_a_generator_is_not_kept_alive():
    """A name ends with its generator, and is not passed on to an object at the same address."""
    names = Names()
    for _ in range(100):
        generator = random.Random(0)
        known = names.get(generator)
        names.add(generator, "random", "a.py:1:f")

        assert known is None

    del generator
    gc.collect()

    assert {} == names._known


def test_states_tell_generators_apart():
    """Equal seeds give equal digests, a draw another one."""
    makers = [
        random.Random,
        np.random.default_rng,
        np.random.RandomState,
        lambda seed: torch.Generator().manual_seed(seed),
    ]
    for make in makers:
        first, second = make(3), make(3)

        assert state_digest(first) == state_digest(second) != state_digest(make(4))


def test_the_cache_of_a_normal_draw_is_state():
    """The legacy generator keeps every second normal number outside its bit generator."""
    first, second = np.random.RandomState(0), np.random.RandomState(0)
    first.randn()
    second.randn(2)

    assert state_digest(first) != state_digest(second)


def test_a_subclass_passes_for_its_original():
    """Instances of the original are instances of the one in its place, but not of a user's subclass of it."""
    made = passing_subclass(np.random.Generator, {})

    class Own(made):
        pass

    plain, own = np.random.default_rng(0), Own(np.random.PCG64(0))

    assert [True, True, False, True] == [isinstance(value, kind) for value, kind in (
        (plain, made), (own, made), (plain, Own), (own, Own))]  # fmt: skip
    assert issubclass(np.random.Generator, made)
    assert not issubclass(np.random.Generator, Own)
    assert "Generator(PCG64)" == str(made(np.random.PCG64(0)))
