"""Every format gives the same table; what is no table of metrics is refused in a sentence."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pytest

from fixtures.metric_files import FORMATS, REPORT_001, REPORT_003, REPORT_004, write_table
from rectest.audits.metric_tables import MAX_BYTES, read_metrics, split_of
from rectest.errors import DataError, RectestError

TEXTS = {"recall@5": "0.1234", "Recall@10": "0.2345", "NDCG@10": "0.1500", "mrr": "0.1100", "avg_rank": "33.21"}
VALUES = {"recall@5": 0.1234, "recall@10": 0.2345, "ndcg@10": 0.15, "mrr": 0.11, "mean_rank": 33.21}
DIGITS = {"recall@5": 4, "recall@10": 4, "ndcg@10": 4, "mrr": 4, "mean_rank": 2}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_agree(tmp_path: Path, name: str) -> None:
    file = read_metrics(write_table(tmp_path, name, TEXTS))

    (table,) = file.tables
    assert table.values == VALUES
    assert table.decimals == DIGITS


def test_a_lightning_folder_is_its_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "lightning_logs" / "version_0"
    folder.mkdir(parents=True)
    write_table(folder, "metrics.csv", TEXTS)

    for path in (folder, tmp_path / "lightning_logs"):
        (table,) = read_metrics(path).tables

        assert (table.group, table.series) == ("val", True)
        assert table.values == VALUES


def test_two_runs_in_one_folder_must_be_told_apart(tmp_path: Path) -> None:
    for version in ("version_0", "version_1"):
        (tmp_path / version).mkdir()
        write_table(tmp_path / version, "metrics.csv", TEXTS)

    with pytest.raises(DataError, match="holds 2 logs"):
        read_metrics(tmp_path)


def test_tensorboard_events(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    writer = tensorboard.SummaryWriter(str(tmp_path))
    for step in (10, 20):
        writer.add_scalar("valid/recall@10", 0.01 * step, step)
        writer.add_scalar("valid/map@10", 0.1, step)
    writer.close()

    file = read_metrics(tmp_path)

    assert (file.format, file.left_out) == ("TensorBoard", ("valid/map@10",))
    assert [(table.label, table.group) for table in file.tables] == [("step 10", "valid"), ("step 20", "valid")]
    assert file.tables[1].values["recall@10"] == pytest.approx(0.2)
    assert file.tables[1].decimals == {"recall@10": 5}


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)

    with pytest.raises(RectestError, match=r"pip install 'rectest\[tensorboard\]'"):
        read_metrics(tmp_path)


def test_a_damaged_event_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"\x00\x01 nothing of the kind" * 40)

    with pytest.raises(DataError, match=r"cannot be read as TensorBoard|holds no scalar"):
        read_metrics(path)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.md", "| K | Recall | NDCG |\n|---|---|---|\n| 5 | 0.1 | 0.08 |\n| 10 | 0.2 | 0.1 |\n", 4),
        ("b.md", "| 指标 | @5 | @10 |\n|---|---|---|\n| 召回率 | ０.1 | 0.2 |\n| NDCG | 0.08 | 0.1 |\n", 4),
        ("c.json", '{"test": {"recall": {"5": 0.1, "10": 0.2}, "ndcg": {"5": 0.08, "10": 0.1}}}', 4),
        ("d.csv", "recall@5,0.1\nndcg@5,0.08\n", 2),
        ("e.csv", "recall@5;ndcg@5\n0,1;0,08\n", 2),
        ("f.json", '{"best_valid_score": 0.1, "best_valid_result": {"recall@5": 0.1, "ndcg@5": 0.08}}', 2),
        ("g.txt", "recall@5: 0.1 | NDCG@5 = 0.08\n", 2),
        ("h", "recall@5,ndcg@5\n0.1,0.08\n", 2),
        ("i.csv", "k,recall,ndcg,mrr\n5,0.1,0.08,0.07\n10,0.2,0.1,0.08\n", 6),
        ("j.csv", "metric,k,value\nrecall,5,0.1\nndcg,5,0.08\nmrr,5,0.07\n", 3),
        ("k.csv", "metric,mean,std\nrecall@5,0.1,0.01\nndcg@5,0.08,0.02\n", 2),
        ("l.log", "{'recall@5': 0.1, 'ndcg@5': np.float64(0.08)}\n", 2),
        ("m.log", "INFO  test result: OrderedDict([('recall@5', 0.1), ('ndcg@5', 0.08)])\n", 2),
    ],
)
def test_layouts(tmp_path: Path, name: str, text: str, expected: int) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")

    found = read_metrics(tmp_path / name)
    (table,) = found.tables

    assert len(table.cells) == expected
    assert found.left_out == ()
    assert (table.values["recall@5"], table.values["ndcg@5"]) == (0.1, 0.08)


def test_rows_of_models_and_epochs_keep_their_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("model,epoch,hit@5,test_hit@5\nSASRec,1,0.1,0.2\nGRU,2,0.3,0.4\n")

    found = {(table.group, table.label): table.values["hit@5"] for table in read_metrics(path).tables}
    assert found == {
        ("", "model SASRec epoch 1"): 0.1,
        ("", "model GRU epoch 2"): 0.3,
        ("test", "model SASRec epoch 1"): 0.2,
        ("test", "model GRU epoch 2"): 0.4,
    }
    assert {table.group for table in read_metrics(path, split="test").tables} == {"test"}


def test_a_log_of_recbole_has_its_curve_and_its_test(tmp_path: Path) -> None:
    """The test result is a printed dict on one line; epochs are blocks after a line of their own."""
    stamp = "Sun 22 Nov 2026 12:00:12  INFO  "
    epochs = [f"{stamp}valid result: \nrecall@10 : {value}    mrr@10 : 0.05\n" for value in (0.1, 0.2)]
    best = f"{stamp}best valid : OrderedDict([('recall@10', 0.2), ('mrr@10', 0.05)])\n"
    test = f"{stamp}test result: OrderedDict([('recall@10', 0.15), ('mrr@10', 0.04)])\n"
    path = tmp_path / "run.log"
    path.write_text("".join([*epochs, best, test]))

    found = [(table.label, table.series, table.values["recall@10"]) for table in read_metrics(path).tables]
    assert found == [
        ("valid result (1)", True, 0.1),
        ("valid result (2)", True, 0.2),
        ("best valid (3)", False, 0.2),
        ("test result (4)", False, 0.15),
    ]
    assert [table.values["mrr@10"] for table in read_metrics(path, split="test").tables] == [0.04]


@pytest.mark.parametrize("text", ["recall@5: 0.1, ndcg@5: nan\n", "{'recall@5': 0.1, 'ndcg@5': nan}\n"])
def test_a_line_keeps_what_is_not_finite(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.log").write_text(text)

    (table,) = read_metrics(tmp_path / "run.log").tables

    assert table.values["recall@5"] == 0.1
    assert math.isnan(table.values["ndcg@5"])


def test_a_mean_reciprocal_rank_beside_cut_offs_is_one_where_it_does_not_change(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_text("k,recall,mrr,mean_rank\n5,0.1,0.07,33.1\n10,0.2,0.07,33.1\n")

    (table,) = read_metrics(path).tables

    assert table.values == {"recall@5": 0.1, "recall@10": 0.2, "mrr": 0.07, "mean_rank": 33.1}


@pytest.mark.parametrize("row", ["Improv.", "**Improvement (%)**", "Rel. improv.", "Δ", "% Gain", "p-value", "std"])
def test_rows_about_other_rows_are_no_rankings(tmp_path: Path, row: str) -> None:
    path = tmp_path / "t.md"
    path.write_text(f"| model | recall@5 | recall@10 |\n|--|--|--|\n| DiffRec | 0.1 | 0.2 |\n| {row} | 9.1 | 1.2 |\n")

    found = read_metrics(path)

    assert [table.label for table in found.tables] == ["model DiffRec"]
    assert found.left_out == (row,)


def test_the_reports(tmp_path: Path) -> None:
    sizes = []
    for name, text in (("001.csv", REPORT_001), ("003.md", REPORT_003), ("004.md", REPORT_004)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        file = read_metrics(tmp_path / name)
        sizes.append([len(table.cells) for table in file.tables])

    assert sizes == [[4], [3], [10]]
    assert file.left_out == ("NDCG@10增长",)


def test_one_odd_cell_leaves_the_rest_of_its_column(tmp_path: Path) -> None:
    (tmp_path / "t.md").write_text(
        "| m | v | note |\n|--|--|--|\n| hit@5 | 0.1 | a |\n| hit@10 | 0.2→0.3 | 1 |\n| mrr | 0.09 | b |\n"
    )
    file = read_metrics(tmp_path / "t.md")

    assert [table.values for table in file.tables] == [{"hit@5": 0.1, "mrr": 0.09}]
    assert file.left_out == ("hit@10 = '0.2→0.3' (no single number)",)


def test_declared_digits_replace_the_written_ones(tmp_path: Path) -> None:
    (table,) = read_metrics(write_table(tmp_path, "wide.csv", TEXTS), decimals=3).tables

    assert set(table.decimals.values()) == {3}
    with pytest.raises(ValueError, match="decimals must be at least 0"):
        read_metrics(tmp_path / "wide.csv", decimals=-1)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"   \n\n", "is empty"),
        ("a.csv", b"\xff\xfe\x00binary", "not UTF-8"),
        ("a.csv", b"a\x00b", "null characters"),
        ("a.csv", b"epoch,loss\n1,2\n", "no metric that is known"),
        ("a.csv", b"map@10\n0.3\n", "left out: map@10"),
        ("a.csv", b"recall@10\n", "no metric that is known"),
        ("a.csv", b"recall@10\nhigh\n", "no single number"),
        ("a.json", b'{"recall@10": 0.1', "no JSON"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.jsonl", b'{"recall@10": 0.1}\n{oops\n', "line 2"),
        ("a.md", b"# nothing here\n", "no metric that is known"),
        ("a.json", b"42", "no metric that is known"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=problem):
        read_metrics(tmp_path / name)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, problem in ((tmp_path / "absent.csv", "No such file"), (tmp_path / "empty", "no metrics.csv")):
        with pytest.raises(DataError, match=problem):
            read_metrics(path)
    with (tmp_path / "large.csv").open("wb") as file:
        os.truncate(file.fileno(), MAX_BYTES + 1)
    with pytest.raises(DataError, match="bytes are no table"):
        read_metrics(tmp_path / "large.csv")


def test_an_absent_split_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no metrics of split 'test'; it has valid"):
        read_metrics(write_table(tmp_path, "metrics.csv", TEXTS), split="test")
    assert (split_of("val"), split_of("best_valid_result"), split_of("cold items")) == ("valid", "valid", "")
