"""Cases of users' own code: what is refused before and inside the ranks, how rows are cut, and what is measured."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections import namedtuple
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fixtures import cases
from rectest.errors import ChildFailed, RectestError, TrainingError, UnknownNameError
from rectest.training.case import STRATEGIES, ParityCase, case_of, gradient_descent
from rectest.training.case_batch import Cut, as_batch
from rectest.training.case_child import CaseTask
from rectest.training.case_run import measure, missing_gpus
from rectest.training.modules import Modules, load_modules, modules_of
from rectest.training.reduction import Reduction

Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass(frozen=True)
class Feed:
    """A batch as a dataclass."""

    items: torch.Tensor
    size: int = 3


class Jagged:
    """Rows of different lengths: no nesting of tensors, so only its user can cut it."""

    def __init__(self, values: torch.Tensor, lengths: torch.Tensor) -> None:
        self.values, self.lengths = values, lengths

    @staticmethod
    def cut(batch: Jagged, start: int, stop: int) -> Jagged:
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), batch.lengths.cumsum(0)])
        return Jagged(batch.values[offsets[start] : offsets[stop]], batch.lengths[start:stop])

    @staticmethod
    def count(batch: Jagged) -> int:
        return len(batch.lengths)


JAGGED = Jagged(torch.arange(6), torch.tensor([1, 3, 2]))
OWN = Cut(shard=Jagged.cut, num_rows=Jagged.count)


class TestBatch:
    def test_rows_are_cut_through_any_nesting(self):
        tree = {"a": [torch.arange(4), Pair(torch.arange(8).view(4, 2), None)], "feed": Feed(torch.arange(4)), "k": 3}

        cut = as_batch(tree).rows(1, 3)

        assert cut.num_rows == 2
        assert cut.tree["a"][0].tolist() == [1, 2]
        assert isinstance(cut.tree["a"][1], Pair)
        assert cut.tree["a"][1].first.tolist() == [[2, 3], [4, 5]]
        assert (cut.tree["feed"].items.tolist(), cut.tree["feed"].size, cut.tree["k"]) == ([1, 2], 3, 3)
        assert list(cut.inputs) == ["a.0", "a.1.first", "feed.items"]
        assert tree["a"][0].tolist() == [0, 1, 2, 3]

    def test_shared_tensors_and_numbers_stay_whole(self):
        tree = {"x": torch.arange(4), "negatives": {"ids": torch.arange(9)}, "step": torch.tensor(5)}

        cut = as_batch(tree, Cut(shared=("negatives",))).rows(0, 1)

        assert cut.tree["negatives"]["ids"].shape == (9,)
        assert cut.tree["step"] == 5
        assert cut.shared == {"negatives.ids"}

    def test_an_object_is_cut_by_its_user(self):
        batch = as_batch(JAGGED, OWN)

        cut = batch.rows(1, 3)

        assert cut.tree.values.tolist() == [1, 2, 3, 4, 5]
        assert torch.equal(cut.inputs["rows"], batch.inputs["rows"][1:])
        assert len(batch.inputs["rows"].unique(dim=0)) == 3
        assert cut.to(torch.device("cpu")).tree is cut.tree

    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 9), st.data())
    def test_pieces_make_the_batch(self, num_rows, data):
        cuts = sorted(data.draw(st.sets(st.integers(1, num_rows), max_size=3)) | {0, num_rows})
        batch = as_batch({"x": torch.arange(num_rows), "y": [torch.arange(2 * num_rows).view(-1, 2)]})

        pieces = [batch.rows(start, stop) for start, stop in itertools.pairwise(cuts)]

        assert torch.equal(torch.cat([piece.tree["x"] for piece in pieces]), batch.tree["x"])
        assert torch.equal(torch.cat([piece.inputs["y.0"] for piece in pieces]), batch.tree["y"][0])

    @pytest.mark.parametrize(
        ("tree", "cut", "error", "match"),
        [
            ({"x": torch.ones(3), "y": torch.ones(4)}, Cut(), ValueError, r"\(x 3, y 4\).*shared="),
            ({"x": torch.ones(0, 2)}, Cut(), ValueError, "the batch is empty: x has 0 rows"),
            (torch.ones(0), Cut(), ValueError, "empty: batch has 0 rows"),
            ({}, Cut(), ValueError, "no tensor with a row for each sample; its tensors are: none"),
            ({"x": torch.tensor(1.0)}, Cut(), ValueError, "its tensors are: x"),
            ({"x": torch.ones(2)}, Cut(shared=("y",)), ValueError, "shared names y, .* it has x"),
            ({"x": torch.ones(2), "ids": ["a", "b"]}, Cut(), TypeError, "ids is a list of plain values"),
            ({"x": torch.ones(2), "ids": np.ones(2)}, Cut(), TypeError, "ids is a ndarray.*make it a tensor"),
            (JAGGED, Cut(), TypeError, "the batch is a Jagged.*shard="),
            (JAGGED, Cut(shard=Jagged.cut, num_rows=lambda _: 0), ValueError, r"num_rows\(batch\) must be.*got 0"),
        ],
    )
    def test_what_cannot_be_cut_is_refused(self, tree, cut, error, match):
        with pytest.raises(error, match=match):
            as_batch(tree, cut)

    def test_a_shard_of_other_length_is_refused(self):
        whole = as_batch(
            JAGGED, Cut(shard=lambda batch, start, _stop: Jagged.cut(batch, start, 3), num_rows=Jagged.count)
        )

        with pytest.raises(TrainingError, match=r"shard\(batch, 0, 2\) gave 3 rows, 2 were needed"):
            whole.rows(0, 2)

    def test_shard_and_num_rows_belong_together(self):
        with pytest.raises(ValueError, match="belong together"):
            Cut(shard=Jagged.cut)


class TestCase:
    def test_names_of_strategies_are_settings(self):
        assert cases.case(strategy="ddp", accumulation=3).reduction == Reduction(weigh_shares=False, accumulation=3)
        assert cases.case(strategy="ddp_weighted").reduction == Reduction()
        assert cases.case(strategy=cases.own_ddp, accumulation=2).reduction is None
        assert set(STRATEGIES) == {"ddp", "ddp_weighted", "all_reduce"}

    def test_shares(self):
        assert cases.case().shares_on(2) is None
        assert cases.case(uneven=True).shares_on(3) == (3, 1, 1)
        assert cases.case(uneven=True).shares_on(1) is None
        assert cases.case(shares=[2, 1]).shares_on(2) == (2, 1)

    def test_it_is_called_what_builds_it(self):
        assert cases.case().subject == "fixtures.cases.build"
        assert cases.case(build=cases.sparse).subject == "fixtures.cases.build"
        assert cases.case(build=cases.Retriever).subject == "fixtures.cases.Retriever"
        assert cases.case(name="mine").subject == "mine"

    @pytest.mark.parametrize(
        ("changes", "error", "match"),
        [
            ({"strategy": "dpp"}, UnknownNameError, "unknown strategy 'dpp'.*ddp, ddp_weighted"),
            ({"strategy": 3}, TypeError, "strategy must be a name"),
            ({"strategy": Reduction(accumulation=2), "accumulation": 4}, ValueError, "4 here and 2 in the strategy"),
            ({"accumulation": 0}, ValueError, "accumulation must be a whole number of at least 1, got 0"),
            ({"steps": True}, ValueError, "steps must be"),
            ({"loss": None}, TypeError, "loss must be a function, got NoneType"),
            ({"build": nn.Linear(1, 1)}, TypeError, "build is a module; give the function"),
            ({"uneven": True, "shares": (1, 2)}, ValueError, "give one of them"),
            ({"gpus": "two"}, ValueError, "gpus must be 'any' or 'one_each'"),
            ({"device": "xpu"}, ValueError, "device must be cpu, cuda or cuda:N"),
            ({"batch": {"x": torch.ones(0)}}, ValueError, "empty"),
            ({"shared": ("negatives",)}, ValueError, "shared names negatives"),
            ({"shard": Jagged.cut}, ValueError, "belong together"),
        ],
    )
    def test_bad_fields_are_refused(self, changes, error, match):
        with pytest.raises(error, match=match):
            cases.case(**changes)

    def test_by_name(self):
        assert case_of("fixtures.cases:small").batch["history"].shape == (4, 3)
        assert case_of("fixtures.cases:green", {"steps": 3}).steps == 3

    @pytest.mark.parametrize(
        ("name", "match"),
        [
            ("fixtures.cases:no_case", "fixtures.cases:no_case is a int"),
            ("fixtures.cases:build", "fixtures.cases:build returned a Retriever, a rectest.ParityCase"),
            ("fixtures.cases:Retriever", "is a type"),
            ("fixtures.cases:absent", "has no 'absent'"),
            ("fixtures.absent:case", "cannot import 'fixtures.absent'"),
        ],
    )
    def test_a_name_of_something_else(self, name, match):
        with pytest.raises(RectestError, match=match):
            case_of(name)

    @pytest.mark.parametrize(
        ("kind", "match"),
        [
            ("float", "is a float, a tensor was needed"),
            ("vector", r"shape \(3,\), one number was needed"),
            ("nan", "is nan, a finite number"),
            ("detached", "without a gradient; it is detached"),
        ],
    )
    def test_a_loss_that_is_none(self, kind, match):
        case = cases.case(loss=partial(cases.loss_with, kind=kind), name="mine")
        task = CaseTask(case)

        with pytest.raises(TrainingError, match=f"the loss of mine .*{match}"):
            task.losses(cases.build(), as_batch(case.batch))

    def test_gradient_descent_keeps_a_factor(self):
        assert gradient_descent(cases.build().parameters()).param_groups[0]["lr"] == 0.1


class TestMeasure:
    """Each test launches ranks, in a fraction of a second."""

    def test_records_have_what_judges_need(self):
        outcome = measure(cases.case(accumulation=2, steps=3), (1, 2))

        first, second = outcome.ranks[2]
        assert set(outcome.ranks) == {1, 2}
        assert not outcome.single.names("start/")
        assert outcome.single["rows/digest"].shape == (8, 2)
        assert first["replicas/tensors"].shape == (4, 4, 2)
        assert np.array_equal(
            np.concatenate([first["rows/digest"], second["rows/digest"]]), outcome.single["rows/digest"]
        )
        assert first.facts["tables"] == {"items.weight": {"rows": True}, "out.weight": {"rows": True}}
        assert first.facts["parallel"]["job"]["num_micro"] == 2
        assert first.facts["parallel"]["num_rows"] == [2, 2]
        local = sum(record[f"local/{micro}/layer.weight"] for record in (first, second) for micro in (0, 1))
        np.testing.assert_allclose(local, outcome.single["grad/layer.weight"], atol=1e-7)
        np.testing.assert_allclose(first["grad/layer.weight"], outcome.single["grad/layer.weight"], atol=1e-7)

    def test_only_rank_0_gets_the_weights_of_one_process(self):
        outcome = measure(cases.case(build=cases.build_unseeded, strategy="all_reduce"), (2,))

        single, (first, second) = outcome.single["replicas/built"], outcome.ranks[2]
        assert np.array_equal(single, first["replicas/tensors"][0])
        assert not np.array_equal(single[0], second["replicas/tensors"][0][0])

    def test_two_launches_draw_different_weights(self):
        first, second = (measure(cases.case(build=cases.build_unseeded), (1,)).single for _ in range(2))

        assert not np.array_equal(first["replicas/built"], second["replicas/built"])

    def test_phases_of_an_own_strategy_are_told_apart(self):
        outcome = measure(cases.case(strategy=cases.summed_again), (2,))

        phases = {call["phase"] for call in outcome.ranks[2][0].facts["parallel"]["comm"]}
        assert {"wrap", "backward", "reduce"} <= phases

    def test_dropout_is_off_unless_it_is_asked_for(self):
        records = [
            measure(cases.case(build=partial(cases.build, rate=0.5), dropout=dropout), (1,)).single
            for dropout in (False, True)
        ]

        assert [record.facts["parallel"]["random_loss"] for record in records] == [False, True]

    @pytest.mark.parametrize(
        ("changes", "world_sizes", "error", "match"),
        [
            ({}, (), ValueError, "world_sizes must be"),
            ({}, (0,), ValueError, "world_sizes must be"),
            ({"batch": cases.batch_of(3)}, (4,), TrainingError, "3 rows cannot be shared by 4 ranks"),
            ({"accumulation": 5}, (2,), TrainingError, "8 rows cannot be shared by 2 ranks with 5 micro-batches"),
            ({"shares": (1, 1)}, (3,), ValueError, "shares must be 3 positive numbers"),
            ({"loss": lambda _model, _batch: 0}, (2,), TypeError, "^loss cannot be sent to the ranks.*top level"),
        ],
    )
    def test_what_can_be_refused_without_ranks(self, changes, world_sizes, error, match):
        with pytest.raises(error, match=match):
            measure(cases.case(**changes), world_sizes)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"build": cases.build_nothing}, r"build\(\) returned a dict, a torch.nn.Module was needed"),
            ({"build": cases.build_frozen}, "no parameter that is trained"),
            ({"batch": partial(cases.batch_of, 3), "accumulation": 4}, "3 rows cannot be shared by 2 ranks"),
            (
                {"strategy": cases.stepping},
                "the step of the strategy changed items.weight; it must leave gradients only",
            ),
            ({"strategy": cases.leaving_nothing}, "left no gradient .* return them by name"),
            ({"strategy": cases.naming_another}, "a gradient of 'absent', which the model does not have"),
            (
                {"strategy": cases.shaping_otherwise},
                r"a gradient of shape \(1,\) for layer.bias, which has",
            ),
            ({"strategy": cases.without_step}, "returned a NoneType, a function of batches was needed"),
            ({"build": cases.build_of_chance}, "made another model than in one process"),
            ({"loss": cases.loss_raising}, "rank 1 of 2 raised RuntimeError: no rows for me"),
        ],
    )
    def test_what_goes_wrong_in_a_rank_is_named(self, changes, match):
        with pytest.raises(ChildFailed, match=match):
            measure(cases.case(**changes), (2,))

    def test_gpus_that_are_not_there(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

        assert missing_gpus(cases.case(device="cuda"), 4) == ""
        assert missing_gpus(cases.case(device="cuda", gpus="one_each"), 4) == "asked for 4 GPUs, found 1"
        assert missing_gpus(cases.case(device="cuda:1"), 1) == "asked for 2 GPUs, found 1"
        assert missing_gpus(cases.case(), 4) == ""


class TestModules:
    def test_users_own_modules_are_found_with_their_files(self):
        modules = modules_of(
            case=[cases.build, partial(cases.loss_with, kind="nan"), torch.sigmoid, Feed(torch.ones(1))]
        )

        assert set(modules.files) == {"fixtures.cases", __name__}
        assert modules.files[__name__] == str(__file__)

    def test_a_file_is_loaded_under_its_name(self, tmp_path, monkeypatch):
        path = tmp_path / "some_user_file.py"
        path.write_text("VALUE = 5\n")
        name = "folder_that_is_none.some_user_file"
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)

        loaded = load_modules({name: str(path)})

        assert isinstance(loaded, Modules)
        assert sys.modules[name].VALUE == 5

    def test_what_cannot_be_sent_is_named(self):
        with pytest.raises(TypeError, match=r"^strategy cannot be sent to the ranks"):
            modules_of(build=cases.build, strategy=lambda: None)


def test_a_case_is_made_once_and_never_changed():
    case = cases.case()

    with pytest.raises(dataclasses.FrozenInstanceError):
        case.steps = 3

    assert isinstance(dataclasses.replace(case, steps=3), ParityCase)
