"""What a user's training function may tell a `Recorder`, and what it is told when that makes no sense."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fixtures.records import make_environment, make_ranks
from rectest.baseline.features import features
from rectest.errors import TrainingError, UnknownNameError
from rectest.record import RunRecord, RunSpec
from rectest.training.recorder import Recorder

SPEC = RunSpec(system="mine:train", seed=3)
NOTHING = [[0, 0]]


@pytest.fixture
def run() -> Recorder:
    return Recorder(SPEC, make_environment())


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(4, 2, padding_idx=0), nn.Linear(2, 1))


def backward(model: nn.Module) -> torch.Tensor:
    loss = model(torch.tensor([1, 2])).square().mean()
    loss.backward()
    return loss


class TestLoss:
    @pytest.mark.parametrize(
        "loss", [torch.tensor(0.5, requires_grad=True), torch.tensor([0.5]), 0.5, np.float32(0.5), {"total": 0.5}]
    )
    def test_one_number(self, run, loss):
        run.step(loss=loss)
        record = run.finish()

        assert record["loss/total"].tolist() == [0.5]
        assert record["loss/total"].dtype == np.float64
        assert run.num_steps == 1

    def test_components_are_curves(self, run):
        for step in range(2):
            run.step(loss={"total": torch.tensor(1.0 + step), "aux": torch.tensor(0.5)})
        record = run.finish()

        assert (record["loss/total"].tolist(), record["loss/aux"].tolist()) == ([1.0, 2.0], [0.5, 0.5])

    def test_the_caller_keeps_its_graph(self, run):
        weight = torch.ones(1, requires_grad=True)
        loss = (2 * weight).sum()
        run.step(loss=loss)
        loss.backward()

        assert weight.grad.tolist() == [2.0]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("name", ["total", "aux"])
    def test_a_loss_that_is_not_finite_ends_the_run(self, run, value, name):
        run.step(loss={"total": 1.0, "aux": 1.0})

        with pytest.raises(TrainingError, match=f"loss '{name}' is {value} at step 2; look at the learning rate"):
            run.step(loss={"total": 1.0, "aux": 1.0, name: torch.tensor(value)})
        assert run.num_steps == 1

    @pytest.mark.parametrize(
        ("loss", "error", "problem"),
        [
            (torch.ones(3), ValueError, r"loss 'total' has shape \(3,\), one number was needed; take its mean"),
            ({"bce": 1.0}, ValueError, "the loss has components bce; the one that is differentiated must be 'total'"),
            ({}, ValueError, "the loss has components none"),
            ({"total": 1.0, "late": 1.0}, TrainingError, "components late, total at step 2, earlier total"),
        ],
    )
    def test_losses_without_a_curve_are_refused(self, run, loss, error, problem):
        run.step(loss=1.0)

        with pytest.raises(error, match=problem):
            run.step(loss=loss)


class TestBatch:
    @pytest.mark.parametrize(
        "batch", [torch.arange(3), {"x": torch.ones(2)}, [torch.ones(2), 1], np.arange(4), (1, 2), "a text"]
    )
    def test_any_kind_is_digested(self, run, batch):
        run.step(loss=1.0, batch=batch)

        assert run.finish()["tape/batch"].tolist() not in (NOTHING, [])

    def test_no_batch_and_no_model(self, run):
        run.step(loss=1.0)
        record = run.finish()

        assert record["tape/batch"].tolist() == NOTHING
        assert not [key for key in record.arrays if "gradients" in key or "parameters" in key or "negatives" in key]

    @pytest.mark.parametrize("batch", [object(), {"ids": {1, 2}}, [torch.ones(1), iter(())]])
    def test_what_has_no_digest_is_refused(self, run, batch):
        with pytest.raises(TypeError, match=r"is a (object|set|tuple_iterator); give tensors, arrays, plain values"):
            run.step(loss=1.0, batch=batch)

    def test_negatives_stand_apart(self, run):
        run.step(loss=1.0, batch=torch.ones(1), negatives=torch.tensor([4]))
        record = run.finish()

        assert record["tape/negatives"].shape == (1, 2)
        assert record["tape/negatives"].tolist() != record["tape/batch"].tolist()


class TestModel:
    def test_gradients_of_the_first_step_are_kept_as_copies(self, run):
        model = make_model()
        loss = backward(model)
        run.step(loss=loss, model=model)
        expected = model[1].weight.grad.clone().numpy()
        model[1].weight.grad.zero_()
        run.step(loss=loss, model=model)
        record = run.finish()

        assert record.names("grad/") == ["0.weight", "1.bias", "1.weight"]
        np.testing.assert_array_equal(expected, record["grad/1.weight"])
        assert record["tape/gradients/tensors"].shape == (2, 3, 2)
        assert record.facts["tape"]["parameters"] == ["0.weight", "1.weight", "1.bias"]

    def test_sparse_gradients_are_kept_dense(self, run):
        table = nn.Embedding(4, 2, sparse=True)
        table(torch.tensor([1, 1, 3])).sum().backward()
        run.step(loss=1.0, model=table)

        assert run.finish()["grad/weight"].tolist() == [[0, 0], [2, 2], [0, 0], [1, 1]]

    def test_bfloat16_survives_a_file(self, run, tmp_path):
        model = make_model().bfloat16()
        run.start(model)
        run.step(loss=backward(model), model=model)
        run.table("item", model[0].weight, padding_row=0)
        run.array("rows/item", torch.ones(4, dtype=torch.bfloat16))
        record = run.finish()
        path = record.save(tmp_path / "r.safetensors")

        assert record.digest() == RunRecord.load(path).digest()
        assert {record[f"{kind}/{name}"].dtype for kind, name in (("grad", "0.weight"), ("table", "item"))} == {
            np.dtype(np.float32)
        }

    def test_a_model_without_gradients(self, run):
        model = make_model()
        run.step(loss=1.0, model=model)
        record = run.finish()

        assert record.names("grad/") == []
        assert record["tape/gradients/tensors"].any() == np.False_
        assert record["tape/parameters/tensors"].all(axis=2).all()

    def test_start_digests_parameters_and_buffers(self):
        digests = set()
        for momentum, weight in ((0.0, 1.0), (1.0, 1.0), (0.0, 2.0)):
            model = nn.BatchNorm1d(1)
            model.running_mean.fill_(momentum)
            nn.init.constant_(model.weight, weight)
            run = Recorder(SPEC, make_environment())
            run.start(model, id_maps={"item": ["", 17, "b"]})
            run.step(loss=1.0)
            record = run.finish()
            digests.add(str(record["tape/init"]))

        assert len(digests) == 3
        assert record["idmap/item"].tolist() == ["", "17", "b"]


class TestMetrics:
    def test_final_metrics_are_what_the_gate_compares(self, run):
        run.step(loss=1.0)
        run.metrics("test", {"recall@10": torch.tensor(0.25)})
        record = run.finish()

        assert record.final("test/recall@10") == 0.25
        assert features(record) == {"test/recall@10": 0.25, "loss/late": 1.0}

    def test_metrics_may_be_told_one_by_one(self, run):
        run.metrics("test", {"recall@10": 0.2})
        run.metrics("test", {"ndcg@10": 0.1})
        run.metrics("test", {"hit@10": 0.3}, gate=False)
        record = run.finish()

        assert record.facts["gate"]["metrics"] == ["ndcg@10", "recall@10"]
        assert sorted(record.metrics("test")) == ["hit@10", "ndcg@10", "recall@10"]

    def test_metrics_told_twice_must_agree(self, run):
        run.metrics("test", {"recall@10": 0.2})
        run.metrics("test", {"recall@10": 0.2})

        with pytest.raises(TrainingError, match=r"test/recall@10 has two values at step 0, 0\.2 and 0\.3"):
            run.metrics("test", {"recall@10": 0.3})
        assert run.finish()["metric/test/recall@10"].tolist() == [0.2]

    def test_curves_stand_beside_their_steps(self, run):
        for step in range(1, 5):
            run.step(loss=1.0)
            if step % 2 == 0:
                run.evaluation("valid", {"recall@10": step / 10})
        run.evaluation("valid", {"recall@10": 0.9}, step=40)
        record = run.finish()

        assert record["eval/steps"].tolist() == [2, 4, 40]
        assert record["metric/valid/recall@10"].tolist() == [0.2, 0.4, 0.9]

    def test_a_measure_that_goes_missing_ends_the_run(self, run):
        run.evaluation("valid", {"recall@10": 0.1, "mrr": 0.1}, step=1)
        run.evaluation("valid", {"recall@10": 0.2}, step=2)

        with pytest.raises(TrainingError, match="valid/mrr is missing from the evaluation at step 2"):
            run.finish()

    @pytest.mark.parametrize(
        ("metrics", "error", "problem"),
        [
            ({"recal@10": 0.1}, UnknownNameError, "unknown metric"),
            ({"recall@10": float("nan")}, TrainingError, "test/recall@10 is nan at step 0"),
            ({"recall@10": torch.tensor(float("inf"))}, TrainingError, "test/recall@10 is inf at step 0"),
        ],
    )
    def test_what_is_no_metric(self, run, metrics, error, problem):
        with pytest.raises(error, match=problem):
            run.metrics("test", metrics)
        assert run.facts["gate"]["metrics"] == []

    def test_ranks_give_metrics_and_protocol(self, run):
        ranks = make_ranks()
        values = run.ranked("test", ranks, ("recall@10", "mrr"), kind="sampled")
        record = run.finish()

        assert values["recall@10"] == record.final("test/recall@10")
        assert record.facts["protocol"]["test"]["kind"] == "sampled"
        np.testing.assert_array_equal(ranks.expected, record["ranks/test/expected"])


class TestTablesAndArrays:
    def test_tables_are_copied_with_their_promises(self, run):
        model = make_model()
        run.table("item", model[0].weight, padding_row=0, norm=1.0)
        run.table("item", model[0].weight, initial=True)
        expected = model[0].weight.detach().clone().numpy()
        with torch.no_grad():
            model[0].weight.zero_()
        run.step(loss=1.0)
        record = run.finish()

        np.testing.assert_array_equal(expected, record["table/item"])
        np.testing.assert_array_equal(expected, record["table_init/item"])
        assert record.facts["tables"]["item"] == {
            "space": "item",
            "padding_row": 0,
            "norm": 1.0,
            "moves_untouched": False,
            "frozen": False,
        }

    def test_a_vector_is_no_table(self, run):
        with pytest.raises(ValueError, match=r"table 'item' has shape \(3,\), \[rows, embedding_size\] was needed"):
            run.table("item", np.ones(3))

    def test_arrays_are_copied(self, run):
        counts = np.array([0, 3, 2])
        run.array("popularity/item", counts)
        run.array("rows/item", torch.tensor([1.0, 2.0], requires_grad=True))
        counts[:] = 0
        run.step(loss=1.0)
        record = run.finish()

        assert record["popularity/item"].tolist() == [0, 3, 2]
        assert record["rows/item"].tolist() == [1.0, 2.0]

    @pytest.mark.parametrize(
        ("key", "value", "problem"),
        [
            ("loss/total", [1.0], r"'loss/total' is written by run.step\(loss=...\)"),
            ("metric/test/recall@10", [1.0], "is written by run.evaluation or metrics"),
            ("eval/steps", [1], "is written by run.evaluation"),
            ("tape/batch", [[1, 2]], "is written by run.step"),
            ("table/item", [[1.0]], "is written by run.table"),
            ("rows/item", [1], "array 'rows/item' is recorded already"),
            ("used/item/serving", [None, {}], "holds Python objects"),
        ],
    )
    def test_keys_that_clash_and_arrays_that_cannot_be_kept(self, run, key, value, problem):
        run.array("rows/item", [1, 2])

        with pytest.raises(ValueError, match=problem):
            run.array(key, value)

    def test_rows_that_took_part_are_counted(self, run):
        run.table("item", np.zeros((4, 2)), initial=True)
        for rows in (torch.tensor([[1, 1], [3, 0]]), torch.tensor([3]), torch.tensor([], dtype=torch.int64)):
            run.step(loss=1.0, rows={"item": rows})

        assert run.finish()["rows/item"].tolist() == [1, 2, 0, 2]

    @pytest.mark.parametrize(
        ("name", "rows", "error", "problem"),
        [
            ("item", [1, 4], ValueError, "rows 1 to 4 of table 'item' took part in a step, it has 4 rows"),
            ("item", [-1], ValueError, "rows -1 to -1 of table 'item'"),
            ("user", [1], TrainingError, "rows of table 'user' are counted, but run.table"),
        ],
    )
    def test_rows_that_do_not_exist(self, run, name, rows, error, problem):
        run.table("item", np.zeros((4, 2)), initial=True)

        with pytest.raises(error, match=problem):
            run.step(loss=1.0, rows={name: torch.tensor(rows)})

    def test_scalars_are_curves(self, run):
        for value in (0.5, 0.25):
            run.step(loss=1.0, scalars={"gate": torch.tensor(value)})

        assert run.finish()["counter/gate"].tolist() == [0.5, 0.25]


class TestFinish:
    def test_an_empty_run_is_refused(self, run):
        run.start(make_model())
        run.array("used/item/serving", [1])

        with pytest.raises(TrainingError, match=r"mine:train, seed 3 recorded no step and no metric; call run\.step"):
            run.finish()

    def test_time_is_told_apart(self, run):
        run.start()
        run.metrics("test", {"hit@1": 1.0})
        run.mark_time("tested")
        timing = run.finish().facts["timing"]

        assert {"prepared", "tested", "peak_rss_mib"} == set(timing)
        assert min(timing.values()) >= 0
