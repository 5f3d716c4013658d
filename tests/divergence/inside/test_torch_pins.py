"""Pinned arithmetic stays pinned whatever the script asks for, and is let go afterwards."""

from __future__ import annotations

from pathlib import Path

import torch

from fixtures.recorded import recorded


def test_threads(tmp_path: Path) -> None:
    before, original = torch.get_num_threads(), torch.set_num_threads
    torch.set_num_threads(2)
    try:
        with recorded(tmp_path, pins=("threads",)):
            torch.set_num_threads(2)
            pinned = torch.get_num_threads()
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)

    assert (1, 2) == (pinned, after)
    assert original is torch.set_num_threads


def test_deterministic_algorithms(tmp_path: Path) -> None:
    cudnn = torch.backends.cudnn
    before = (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark)
    with recorded(tmp_path, pins=("deterministic",)):
        torch.use_deterministic_algorithms(False)
        cudnn.benchmark = True
        cudnn.deterministic = False
        pinned = (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark)
        warns = torch.is_deterministic_algorithms_warn_only_enabled()

    assert (True, True, False) == pinned
    assert warns
    assert before == (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark)
    cudnn.benchmark = True
    assert cudnn.benchmark
    cudnn.benchmark = before[2]


def test_without_pins_nothing_is_set(tmp_path: Path) -> None:
    with recorded(tmp_path, pins=("hash",)):
        assert not torch.are_deterministic_algorithms_enabled()
