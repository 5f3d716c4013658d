"""Determinism: everything is pinned inside, everything is given back outside, on error too."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from rectest.errors import TrainingError
from rectest.training.determinism import RandomStates, deterministic, global_state, preserved_random_states, probe


def draw():
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


def switches():
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


def test_same_seed_same_draws_other_seed_other_draws():
    drawn = []
    for seed in (3, 3, 4):
        with deterministic(seed):
            drawn.append(draw())

    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))


@pytest.mark.parametrize("fail", [False, True])
def test_everything_is_restored(fail):
    torch.set_num_threads(2)
    before, states = switches(), RandomStates.capture()
    try:
        with deterministic(1, threads=1):
            draw()
            assert torch.get_num_threads() == 1
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.backends.cudnn.deterministic
            if fail:
                raise KeyError
    except KeyError:
        pass

    assert switches() == before
    assert states.moved(RandomStates.capture()) == []
    torch.set_num_threads(1)


def test_threads_take_turns_and_everything_is_restored():
    before = switches()

    def run(seed):
        with deterministic(seed):
            first = draw()
            time.sleep(0.01)
            return first, torch.are_deterministic_algorithms_enabled()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, [1, 2, 1, 2]))

    assert found[0] == found[2]
    assert found[1] == found[3]
    assert all(enabled for _, enabled in found)
    assert switches() == before


def test_precision_switches_are_restored():
    torch.set_float32_matmul_precision("high")
    try:
        with deterministic(1):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32

        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_not_enabled_pins_seeds_only():
    with deterministic(1, enabled=False):
        first = draw()
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(1, enabled=False):
        assert draw() == first


def test_environment_says_what_is_in_force():
    with deterministic(0, threads=1) as environment:
        assert environment.threads == 1
        assert environment.flags["deterministic"] == "True"
    plain = probe()

    assert plain.flags["deterministic"] == "False"
    assert plain.fingerprint != environment.fingerprint
    assert environment.env_class == "cpu"


@pytest.mark.parametrize("name", ["python", "numpy", "torch"])
def test_preserved_states_name_who_drew(name):
    before = RandomStates.capture()
    with preserved_random_states() as drew:
        {"python": random.random, "numpy": np.random.random, "torch": lambda: torch.rand(1)}[name]()

    assert drew == [name]
    assert before.moved(RandomStates.capture()) == []


def test_quiet_blocks_name_nobody():
    with preserved_random_states() as drew:
        np.random.default_rng(0).random()

    assert drew == []


def test_global_state_sees_what_an_import_may_change():
    before = global_state()
    with torch.autograd.set_detect_anomaly(True):
        changed = {k for k, v in global_state().items() if before[k] != v}

    assert changed == {"anomaly_detection"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(TrainingError, match="sees no GPU here"), deterministic(0, device="cuda"):
        pass
