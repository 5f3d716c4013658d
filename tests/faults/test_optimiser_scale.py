"""What loss curves hide, measured: gradient scale under Adam, replicas that drift, epochs of different lengths."""

from __future__ import annotations

import pytest

from rectest.faults.optimiser_scale import drifting_replicas, epochs_compared, scale_spans


def test_adam_hides_a_factor_and_sgd_shows_it():
    spans = scale_spans((1 / 16, 1.0, 4.0))

    assert spans.adam_span < 0.005
    assert spans.sgd_span > 0.1
    assert spans.sgd_span > 50 * spans.adam_span


def test_the_logged_loss_hides_that_replicas_drift_apart():
    found = drifting_replicas(4, num_steps=150)

    assert found.logged < found.synchronised < min(found.replicas)
    assert found.apart > 0.1


def test_one_replica_cannot_drift():
    found = drifting_replicas(1, num_steps=50)

    assert found.apart == 0
    assert found.replicas == pytest.approx((found.synchronised,))
    assert found.logged == pytest.approx(found.synchronised)


def test_one_gpu_takes_four_times_the_steps_of_four():
    compared = epochs_compared()

    assert (compared.steps_one, compared.steps_many) == (2054, 514)
    assert compared.factor == pytest.approx(4, rel=0.01)


def test_odd_epochs_are_refused():
    with pytest.raises(ValueError, match="must all be at least 1"):
        epochs_compared(world_size=0)
