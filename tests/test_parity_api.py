"""One call for users' own code: green where ranks compute what one process computes, red with its cause elsewhere."""

from __future__ import annotations

import time
from functools import partial

import pytest
import torch

import rectest
from fixtures import cases, odd_cases
from rectest import ParityCase, Verdict, assert_gradient_parity
from rectest.checks.cause import find_cause
from rectest.errors import ChildFailed
from rectest.parity import gradient_parity_results, judge_ranks
from rectest.training import case_run
from rectest.training.case_run import measure
from rectest.training.reduction import REPORT_003, Reduction

REGRESSION = {"loss": cases.loss_regression, "batch": cases.pair_of()}
GREEN = {
    "ddp": {},
    "ddp with accumulation": {"accumulation": 2},
    "weighted": {"strategy": "ddp_weighted", "batch": cases.batch_of(7)},
    "weighted terms": {"strategy": "ddp_weighted", "loss": cases.loss_masked, "terms": cases.num_kept},
    "weighted uneven": {"strategy": "ddp_weighted", "uneven": True},
    "all_reduce": {"strategy": "all_reduce"},
    "report 003": {"strategy": REPORT_003},
    "own wrapper": {"strategy": cases.own_ddp, "accumulation": 2},
    "own gradients by name": {"strategy": cases.by_hand, "accumulation": 2, "build": cases.build_unseeded},
    "sparse": {"build": cases.sparse},
    "sparse all_reduce": {"build": cases.sparse, "strategy": "all_reduce"},
    "unseeded under ddp": {"build": cases.build_unseeded},
    "adam": {"optimizer": torch.optim.Adam, "steps": 3},
    "complex, an expanded buffer": {**REGRESSION, "build": odd_cases.build_complex, "strategy": "all_reduce"},
    "a batch that is made": {"batch": cases.batch_of},
}

RED = {
    "uneven last batch": ({"batch": cases.batch_of(7)}, "uneven_shards"),
    "uneven shares": ({"uneven": True, "strategy": "all_reduce"}, "uneven_shards"),
    "uneven under an own wrapper": ({"uneven": True, "strategy": cases.own_ddp}, "uneven_shards"),
    "uneven terms": ({"loss": cases.loss_masked, "terms": cases.num_kept}, "mean_of_means"),
    "terms that nobody told": ({"loss": cases.loss_masked, "strategy": "ddp_weighted"}, "rows_coupled"),
    "unseeded all_reduce": ({"build": cases.build_unseeded, "strategy": "all_reduce"}, "replicas_apart"),
    "a sum for a mean": ({"loss": cases.loss_summed}, "loss_is_a_sum"),
    "bypass": ({"strategy": cases.bypassing}, "never_reduced"),
    "reduced twice": ({"strategy": cases.summed_again, "accumulation": 2}, "summed_not_averaged"),
    "sparse never reduced": ({"build": cases.sparse, "strategy": Reduction(forward="module")}, "never_reduced"),
    "wiped": ({"strategy": Reduction(accumulation=2, wipe_between=True)}, "accumulation_wiped"),
    "inside accumulation": (
        {"strategy": Reduction(accumulation=2, manual_reduce="sum", reduce_every="micro_step")},
        "reduced_inside_accumulation",
    ),
    "reduced too early": ({"strategy": odd_cases.too_early, "accumulation": 2}, "never_reduced"),
    "a layer computed again": (
        {**REGRESSION, "build": odd_cases.build_checkpointed, "strategy": cases.bypassing},
        "never_reduced",
    ),
    "negatives by rank": ({"loss": cases.loss_by_rank}, "rows_coupled"),
    "gathered without gradient": ({"loss": cases.loss_gathering}, "gathered_detached"),
    "buffers": (
        {"build": cases.build_normalised, "loss": cases.loss_regression, "batch": cases.pair_of()},
        "buffers_not_shared",
    ),
    "another batch on each rank": ({"batch": cases.batch_unseeded}, "wrong_rows"),
}


@pytest.mark.parametrize("fields", GREEN.values(), ids=GREEN)
def test_what_is_right_is_green(fields):
    results = assert_gradient_parity(cases.case(**fields), world_sizes=(1, 2))

    assert {result.verdict for result in results} == {Verdict.PASS}
    expected = {"parity/gradient", "parity/scale", "parity/direction", "parity/shares"}
    assert expected | (set() if "build_c" in results[0].subject else {"parity/rows"}) <= {
        result.check for result in results
    }
    assert "parity/replicas" in {result.check for result in results}


@pytest.mark.parametrize(("fields", "cause"), RED.values(), ids=RED)
def test_what_is_wrong_is_red_and_the_cause_is_named(fields, cause):
    outcome = measure(cases.case(**fields), (2,))

    results = {result.check: result for result in judge_ranks(outcome.single, outcome.ranks[2])}
    found = find_cause(outcome.single, outcome.ranks[2])
    assert results["parity/gradient"].verdict is Verdict.FAIL
    assert found.name == cause
    assert found.sentence in results["parity/gradient"].detail


def test_the_imaginary_part_counts():
    with pytest.raises(AssertionError, match="FAIL parity/direction"):
        assert_gradient_parity(
            odd_cases.build_complex,
            cases.loss_regression,
            cases.pair_of(),
            world_sizes=(1,),
            strategy=odd_cases.conjugated,
        )


class TestRounding:
    @pytest.mark.parametrize("strategy", ["ddp", odd_cases.halved], ids=["right", "halved"])
    def test_a_limit_that_half_the_gradient_would_pass_is_not_green(self, strategy):
        fields = {"loss": odd_cases.loss_coarse, "batch": cases.pair_of(), "strategy": strategy}

        results = gradient_parity_results(cases.case(build=odd_cases.build_coarse, **fields), (2,))

        assert results[0].verdict is Verdict.NOT_MEASURED
        assert "would pass too" in results[0].figure
        assert "float32 or float64" in results[0].advice

    def test_the_coarsest_type_sets_the_limit(self):
        outcome = measure(
            cases.case(build=odd_cases.build_coarse, loss=odd_cases.loss_coarse, batch=cases.pair_of()), (1,)
        )
        asked = measure(cases.case(dtype="float16"), (1,))

        assert outcome.single.facts["parallel"]["dtype"] == "bfloat16"
        assert asked.single.facts["parallel"]["dtype"] == "float16"

    def test_autocast_is_thought_of(self):
        fields = {"loss": odd_cases.loss_rounded, "batch": cases.pair_of(), "world_sizes": (2,)}

        with pytest.raises(AssertionError, match=r"rounding of a coarser type .*autocast.* dtype='bfloat16'"):
            assert_gradient_parity(odd_cases.build_plain, **fields)


@pytest.mark.parametrize("strategy", ["ddp", cases.bypassing], ids=["right", "never reduced"])
def test_a_batch_of_equal_rows_says_nothing(strategy):
    batch = {name: value[:1].expand(8, -1) for name, value in cases.batch_of().items()}

    with pytest.raises(
        AssertionError, match=r"(?s)^NOT MEASURED parity/gradient.*from its own rows.*whose rows differ"
    ):
        assert_gradient_parity(cases.case(batch=batch, strategy=strategy), world_sizes=(2,))


def test_the_rank_whose_gradient_is_not_finite_is_named():
    with pytest.raises(AssertionError, match=r"a gradient is not finite: 0\.weight in the share of rank 1"):
        assert_gradient_parity(
            odd_cases.build_plain, odd_cases.loss_infinite, cases.pair_of(), world_sizes=(2,), steps=3
        )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"build": odd_cases.build_lazy}, r"0\.weight has no shape yet; let build\(\) call the model once"),
        (
            {"build": odd_cases.build_plain, "strategy": odd_cases.sharding},
            r"replaced 0\.weight .*as sharding does; let it shard",
        ),
    ],
    ids=["lazy", "sharded"],
)
def test_what_cannot_be_compared_says_what_to_do(fields, problem):
    with pytest.raises(ChildFailed, match=problem):
        measure(cases.case(**REGRESSION | fields), (2,))


@pytest.mark.parametrize("loss", [cases.loss_dropping, cases.loss_drawing], ids=["dropout", "negatives"])
def test_a_random_loss_is_not_measured(loss):
    with pytest.raises(
        AssertionError, match=r"(?s)^NOT MEASURED parity/gradient.*came out differently twice: dropout or"
    ):
        assert_gradient_parity(cases.case(loss=loss), world_sizes=(2,))


def test_one_process_has_to_get_accumulation_right_too():
    wipes = Reduction(accumulation=2, wipe_between=True)

    with pytest.raises(AssertionError, match=r"(?s)on 1 rank.*only the last of 2 micro-batches counts"):
        assert_gradient_parity(cases.case(strategy=wipes), world_sizes=(1,))


def test_fields_or_a_case():
    results = assert_gradient_parity(cases.build, cases.loss, cases.batch_of(), world_sizes=(2, 4), accumulation=2)

    assert {result.subject for result in results} == {
        "fixtures.cases.build on 2 ranks",
        "fixtures.cases.build on 4 ranks",
    }
    with pytest.raises(AssertionError, match="never reduced"):
        assert_gradient_parity(cases.small, world_sizes=(2,), strategy=cases.bypassing)


def test_a_case_by_its_name_needs_not_be_sent():
    results = gradient_parity_results("fixtures.cases:green", (2,), changes={"steps": 1})

    assert not any(result.red for result in results)
    assert results[0].subject == "mine on 2 ranks"


def test_the_message_says_a_cause_once_for_each_number_of_ranks():
    with pytest.raises(AssertionError) as caught:
        assert_gradient_parity(cases.red(), world_sizes=(2, 4))

    text = str(caught.value)
    assert text.count("they are never reduced") == 2
    assert "worst     rank 1, layer.weight" in text


class TestGpus:
    def test_fewer_than_asked_for_is_not_green(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

        results = gradient_parity_results(cases.case(device="cuda", gpus="one_each"), (2, 4))

        assert [result.verdict for result in results] == [Verdict.NOT_MEASURED] * 2
        assert [result.figure for result in results] == ["asked for 2 GPUs, found 0", "asked for 4 GPUs, found 0"]
        with pytest.raises(AssertionError, match=r"NOT MEASURED parity/gradient: .*asked for 1 GPU, found 0"):
            assert_gradient_parity(cases.case(device="cuda"))

    def test_what_is_missing_stays_beside_what_was_measured(self, monkeypatch):
        monkeypatch.setattr(case_run, "missing_gpus", lambda _case, size: "asked for 2 GPUs" if size == 2 else "")

        results = gradient_parity_results(cases.small, (1, 2))

        assert [result.subject for result in results if result.red] == ["fixtures.cases.build on 2 ranks"]
        assert results[0].verdict is Verdict.PASS

    @pytest.mark.gpu
    def test_several_ranks_on_one(self):
        assert_gradient_parity(cases.case(device="cuda"), world_sizes=(1, 2))
        with pytest.raises(AssertionError, match="never reduced"):
            assert_gradient_parity(cases.case(device="cuda", strategy=cases.bypassing), world_sizes=(2,))

    @pytest.mark.gpu(count=2)
    def test_one_for_each_rank(self):
        assert_gradient_parity(cases.case(device="cuda", gpus="one_each"), world_sizes=(2,))


@pytest.mark.slow
def test_a_check_with_two_ranks_takes_less_than_a_second():
    case = cases.case()
    assert_gradient_parity(case, world_sizes=(2,))

    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert_gradient_parity(case, world_sizes=(2,))
        seconds.append(time.perf_counter() - start)

    assert min(seconds) < 1.0


def test_names_are_public():
    assert rectest.ParityCase is ParityCase
    assert {"ParityCase", "assert_gradient_parity"} <= set(rectest.__all__)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (partial(assert_gradient_parity, cases.build), TypeError, "loss must be a function"),
        (partial(assert_gradient_parity, cases.small, colour=3), TypeError, "colour"),
        (partial(assert_gradient_parity, cases.small, world_sizes=()), ValueError, "world_sizes"),
        (partial(assert_gradient_parity, cases.small, world_sizes=2), TypeError, r"got 2; write \(2,\)"),
        (partial(assert_gradient_parity, cases.small, dtype="half"), ValueError, "dtype must be one of float64"),
        (partial(assert_gradient_parity, cases.small, device="tpu"), ValueError, "device must be cpu, cuda or cuda:N"),
        (partial(assert_gradient_parity, cases.small, deadline=0), ValueError, "deadline"),
    ],
)
def test_wrong_calls(call, error, match):
    with pytest.raises(error, match=match):
        call()
