"""Every random number is drawn on the CPU, so a GPU trains on the very same batches, negatives and initial weights."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("system", ["adaptive_sasrec", "comirec"])
def test_streams_do_not_depend_on_the_device(system, rec_train):
    """Digests of what was drawn agree between a CPU run and a GPU run, as far as both went."""
    cpu, cuda = (rec_train(system, device=device) for device in ("cpu", "cuda"))

    for stage in ("id_map", "init", "batch", "negatives"):
        expected, obtained = cpu[f"tape/{stage}"], cuda[f"tape/{stage}"]
        shared = min(len(expected), len(obtained))

        assert shared > 0
        assert np.array_equal(expected[:shared], obtained[:shared]), stage
