"""How far two runs get apart, and the first printed metric that shows it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.tapes import event
from rectest.divergence.growth import first_metric, growth
from rectest.divergence.tapes import Event, Tape


def tape(*events: Event) -> Tape:
    return Tape(process="main", header={}, events=events, end="exit")


def sketch(step: int, values: list[float], loss: float | None = 1.0) -> Event:
    return event(step, "train", "sketch", "parameters", "", values=values, loss=loss)


def test_by_hand() -> None:
    first = tape(sketch(1, [3.0, 4.0], 2.0), sketch(2, [3.0, 4.0], 2.0))
    second = tape(sketch(1, [3.0, 4.0], 2.0), sketch(2, [3.0, 4.5], 1.0))

    one, two = growth(first, second, start=1)

    assert (1, 0.0, 0.0) == (one.step, one.loss, one.parameters)
    assert (2, 0.5) == (two.step, two.loss)
    assert two.parameters == pytest.approx(0.5 / math.sqrt(12.5))


def test_it_begins_where_the_runs_part() -> None:
    run = tape(*(sketch(step, [1.0]) for step in range(1, 6)))

    assert [3, 4, 5] == [point.step for point in growth(run, run, start=3)]
    assert 5 == len(growth(run, run, start=0))


def test_the_loss_of_backward_stands_in_and_absence_is_nan() -> None:
    first = tape(event(1, "train", "loss", "loss", 1, value=2.0))
    second = tape(event(1, "train", "loss", "loss", 2, value=4.0))

    (point,) = growth(first, second, start=1)

    assert point.loss == 0.5
    assert math.isnan(point.parameters)
    assert math.isnan(growth(tape(sketch(1, [1.0], None)), tape(sketch(1, [1.0])), start=1)[0].loss)


def test_values_that_are_not_finite() -> None:
    nan, inf = math.nan, math.inf

    (point,) = growth(tape(sketch(1, [1.0, nan], nan)), tape(sketch(1, [1.0, 2.0], 1.0)), start=1)
    (same,) = growth(tape(sketch(1, [nan, inf], inf)), tape(sketch(1, [nan, inf], inf)), start=1)

    assert math.isnan(point.loss)
    assert math.isnan(point.parameters)
    assert (0.0, 0.0) == (same.loss, same.parameters)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 50))
def test_at_most_sixty_points_with_the_first_and_the_last(num_steps: int, start: int) -> None:
    run = tape(*(sketch(step, []) for step in range(1, num_steps + 1)))

    steps = [point.step for point in growth(run, run, start=start)]

    assert len(steps) <= 60
    assert steps == sorted(set(steps))
    if start <= num_steps:
        assert (start, num_steps) == (steps[0], steps[-1])


def printed(*texts: str) -> tuple[str, str]:
    one, two = texts
    return one, two


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("recall@10: 0.25\n", "recall@10: 0.26\n", "recall@10 0.25 and 0.26"),
        ("took 3.1 s loss 0.5\n", "took 4.2 s loss 0.5\n", ""),
        ("epoch 1 train_loss=1e-3 acc=0.5\n", "epoch 1 train_loss=1e-3 acc=0.75\n", "acc 0.5 and 0.75"),
        ("{'Recall@20': 0.1, 'NDCG@20': 0.2}\n", "{'Recall@20': 0.1, 'NDCG@20': 0.3}\n", "NDCG@20 0.2 and 0.3"),
        ("ndcg@10 : 0.1    mrr@10 : 0.2\n", "ndcg@10 : 0.1    mrr@10 : 0.4\n", "mrr@10 0.2 and 0.4"),
        ("('hit@10', 0.30)\n", "('hit@10', 0.31)\n", "hit@10 0.30 and 0.31"),
        ("valid/HR@10 0.5\n", "valid/HR@10 0.6\n", "valid/HR@10 0.5 and 0.6"),
        ("\x1b[32mloss: nan\x1b[0m\n", "\x1b[32mloss: 1.5\x1b[0m\n", "loss nan and 1.5"),
        ("loss 1\rloss 2\n", "loss 1\rloss 3\n", "loss 2 and 3"),
        ("lossless 5\nmapping 3\n", "lossless 6\nmapping 4\n", ""),
        ("loss 1\n", "other text loss 2\n", ""),
        ("", "loss 2\n", ""),
        ("time 0.5s/it, loss=0.30\n", "time 12.5s/it, loss=0.31\n", "loss 0.30 and 0.31"),
        ("run 3f2a9c1b77 loss 0.30\n", "run aabbccdd01 loss 0.31\n", "loss 0.30 and 0.31"),
    ],
)
def test_the_first_metric_that_differs(first: str, second: str, expected: str) -> None:
    assert expected == first_metric(tape(), printed(first, second))


def test_lines_that_only_one_run_printed_are_passed_over() -> None:
    outputs = printed("resuming, score 3\nloss 0.5\nauc 0.9\n", "loss 0.5\nauc 0.8\n")

    assert "auc 0.9 and 0.8" == first_metric(tape(), outputs)


def test_the_step_is_the_last_that_was_over_when_the_line_was_printed() -> None:
    text = "".join(f"step {step} loss 0.5\n" for step in range(1, 4))
    size = len("step 1 loss 0.5\n")
    run = tape(*(event(step, "train", "output", "stdout", "", bytes=size * (step - 1)) for step in range(1, 4)))

    assert "step 2: loss 0.5 and 0.6" == first_metric(run, printed(text, text.replace("2 loss 0.5", "2 loss 0.6")))


def test_no_output_is_no_metric() -> None:
    assert "" == first_metric(tape(), None)
