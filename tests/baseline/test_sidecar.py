import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fixtures.baselines import make_record, make_records, make_twins, make_whole_baseline
from rectest.baseline import sidecar as module
from rectest.baseline.paired import PairingState, judge_pair, prefix_of
from rectest.baseline.schema import SidecarRef
from rectest.baseline.sidecar import (
    PREFIX_STEPS,
    Sidecar,
    build_sidecar,
    parse_sidecar,
    prefix_digest,
    render_sidecar,
)
from rectest.errors import CorruptBaseline

PATH = Path("toy.npz")
CONTENT, REF = render_sidecar(make_whole_baseline(5)[1], "toy")


def shortened(record, num_steps):
    """The same run, ended earlier."""
    return record.with_arrays(loss__total=record["loss/total"][:num_steps])


def archive_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy_of(array: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


class TestBuild:
    def test_hand_made_runs(self):
        records = make_records([3, 4, 7])
        found = build_sidecar(records, make_twins(records))

        assert found["seeds"].tolist() == [3, 4, 7]
        assert np.array_equal(found["prefix/loss"], np.stack([record["loss/total"] for record in records]))
        assert found["prefix/twin"].shape == (3, 30)
        assert found["curve/loss"].dtype == np.float32
        assert found["curve/steps"].tolist() == [0, 5, 10, 15, 20, 25]
        assert np.array_equal(found["curve/valid/recall@10"][1], records[1]["metric/valid/recall@10"])
        assert np.array_equal(found["init/first"][2], records[2]["init/first"])
        assert found["users/valid/recall@10"].dtype == np.uint8
        assert np.array_equal(found["users/valid/recall@10"][0], records[0]["users/valid/recall@10"][4:].sum(axis=0))
        assert (found.row(7), found.row(5)) == (2, None)
        assert found.names("users/") == ["test/recall@10", "valid/recall@10"]

    def test_only_the_first_losses_are_kept_at_full_precision(self):
        records = [make_record(s).with_arrays(loss__total=np.linspace(2, 1, 80)) for s in range(5)]
        found = build_sidecar(records, records)

        assert found["prefix/loss"].shape == found["prefix/twin"].shape == (5, PREFIX_STEPS)
        assert found["curve/loss"].shape == (5, 80)

    def test_without_twins_there_is_nothing_to_pair_with(self):
        assert "prefix/twin" not in build_sidecar(make_records(range(5)))

    def test_runs_of_other_lengths_are_padded_with_nan(self):
        records = make_records(range(5))
        records[1] = shortened(records[1], 12)
        records[2] = records[2].with_arrays(
            eval__steps=np.arange(4) * 5, **{"metric/valid/recall@10": np.array([0.1, 0.2, 0.3, 0.4])}
        )
        twins = [shortened(twin, 20) for twin in make_twins(records)]
        twins[0] = twins[0].with_arrays(loss__total=np.linspace(2, 1, 40))
        found = build_sidecar(records, twins)

        assert np.isnan(found["prefix/loss"]).sum(axis=1).tolist() == [0, 18, 0, 0, 0]
        assert np.isnan(found["prefix/twin"]).sum(axis=1).tolist() == [0, 18, 10, 10, 10]
        assert found["curve/steps"].size == 6
        assert np.isnan(found["curve/valid/recall@10"]).sum(axis=1).tolist() == [0, 0, 2, 0, 0]

    @pytest.mark.parametrize(
        ("key", "odd"),
        [
            ("users/test/recall@10", np.full((1, 1000), 0.5)),
            ("users/test/recall@10", np.zeros((1, 999))),
            ("users/test/recall@10", None),
            ("init/first", np.zeros(3)),
            ("init/first", None),
            ("loss/total", None),
            ("metric/valid/recall@10", None),
        ],
    )
    def test_what_one_run_lacks_is_left_out(self, key, odd):
        kept = {"loss/total": "curve/loss", "metric/valid/recall@10": "curve/valid/recall@10"}.get(key, key)
        records = make_records(range(5))
        clean = build_sidecar(records)
        records[3] = records[3].with_arrays(**{key: odd})

        assert kept in clean
        assert kept not in build_sidecar(records)

    def test_users_without_a_relevant_item_count_as_no_hit(self):
        hits = np.zeros((1, 1000))
        hits[0, :10], hits[0, 10:20] = 1, np.nan
        records = [record.with_arrays(**{"users/test/recall@10": hits}) for record in make_records(range(5))]

        assert build_sidecar(records)["users/test/recall@10"].sum(axis=1).tolist() == [10] * 5


class TestStreams:
    def test_other_batches_at_the_first_steps_give_another_digest(self):
        record, other = make_record(0), make_record(1)

        assert prefix_digest(record, "batch") == prefix_digest(make_record(0), "batch")
        assert prefix_digest(record, "batch") != prefix_digest(other, "batch")
        assert prefix_digest(record, "batch") != prefix_digest(record, "negatives")
        assert prefix_digest(record, "elsewhere") is None

    def test_what_follows_the_prefix_does_not_count(self):
        tape = np.arange(200, dtype=np.uint64).reshape(100, 2)
        longer, shorter = (make_record(0).with_arrays(tape__batch=tape[:n]) for n in (100, PREFIX_STEPS))

        assert prefix_digest(longer, "batch") == prefix_digest(shorter, "batch")


class TestPairs:
    """What `paired` makes of curves of other lengths, through a sidecar that was written and read."""

    def whole(self, records, *, num_steps=None):
        records = list(records)
        twins = make_twins(records)
        if num_steps is not None:
            records[1], twins[1] = shortened(records[1], num_steps), shortened(twins[1], num_steps)
        content, ref = render_sidecar(build_sidecar(records, twins), "toy")
        return parse_sidecar(content, ref, path=PATH)

    def test_a_run_of_the_stored_length_is_within_rounding(self):
        baseline, _ = make_whole_baseline(5)
        pairing = judge_pair(make_record(1), baseline, self.whole(make_records(range(5))))

        assert pairing.state is PairingState.WITHIN

    def test_a_shorter_run_is_outside_from_its_first_missing_loss_on(self):
        stored = self.whole(make_records(range(5)))

        assert prefix_of(shortened(make_record(1), 12), stored).first_outside == 13
        assert prefix_of(make_record(1), stored).first_outside is None

    def test_a_stored_run_that_was_shorter_is_compared_as_far_as_it_goes(self):
        stored = self.whole(make_records(range(5)), num_steps=12)
        prefix = prefix_of(shortened(make_record(1), 12), stored)

        assert len(prefix.stored) == 12
        assert prefix.first_outside is None
        assert np.isfinite(prefix.envelope).all()


class TestFile:
    def test_equal_arrays_give_equal_bytes_in_any_order(self):
        arrays = make_whole_baseline(5)[1].arrays
        turned = Sidecar(arrays=dict(reversed(arrays.items())))

        assert (CONTENT, REF) == render_sidecar(turned, "toy")
        assert REF.file == f"toy.{REF.digest.removeprefix('blake3:')[:12]}.npz"

    def test_one_other_bit_is_another_file(self):
        arrays = dict(make_whole_baseline(5)[1].arrays)
        arrays["prefix/loss"] = np.nextafter(arrays["prefix/loss"], np.inf)

        assert render_sidecar(Sidecar(arrays=arrays), "toy")[1] != REF

    def test_numpy_reads_it(self):
        with np.load(io.BytesIO(CONTENT)) as archive:
            assert np.array_equal(archive["seeds"], range(5))

    @given(
        arrays=st.dictionaries(
            st.from_regex(r"\A[a-z]{1,5}(/[a-z@0-9]{1,5})?\Z"),
            hnp.arrays(
                st.sampled_from([np.float64, np.float32, np.int64, np.uint8]),
                hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
            ),
            max_size=4,
        )
    )
    @settings(max_examples=50, deadline=None)
    def test_round_trip_is_exact(self, arrays):
        content, ref = render_sidecar(Sidecar(arrays=arrays), "toy")
        found = parse_sidecar(content, ref, path=PATH).arrays

        assert sorted(arrays) == list(found)
        assert all(found[name].dtype == array.dtype for name, array in arrays.items())
        assert all(np.array_equal(found[name], array, equal_nan=True) for name, array in arrays.items())


class TestBadFile:
    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "not a readable sidecar"),
            (b"PK\x03\x04half", "not a readable sidecar"),
            (npy_of(np.zeros(3)), "not a readable sidecar"),
            (CONTENT[:-100], "not a readable sidecar"),
            (archive_of(seeds=b"no array"), "seeds is no array"),
            (archive_of(**{"seeds.npy": b"no array"}), "not a readable sidecar"),
            (archive_of(), "has the digest .* the baseline names"),
            (render_sidecar(make_whole_baseline(5, recall=0.3)[1], "toy")[0], "has the digest .* the baseline names"),
        ],
    )
    def test_damaged_missing_and_foreign_content(self, content, problem):
        with pytest.raises(CorruptBaseline, match=rf"^toy.npz: .*{problem}.*restore it from version control"):
            parse_sidecar(content, REF, path=PATH)

    def test_nothing_is_unpickled(self):
        """The pickle would raise something else if it ever ran."""

        class Bomb:
            def __reduce__(self):
                return exec, ("raise AssertionError('unpickled')",)

        content = archive_of(**{"seeds.npy": npy_of(np.array([Bomb()], dtype=object), pickled=True)})

        with pytest.raises(CorruptBaseline, match="Object arrays cannot be loaded"):
            parse_sidecar(content, REF, path=PATH)
        with pytest.raises(ValueError, match="Object arrays cannot be saved"):
            render_sidecar(Sidecar(arrays={"seeds": np.array([Bomb()], dtype=object)}), "toy")

    def test_more_than_any_recording_is_not_unpacked(self, monkeypatch):
        monkeypatch.setattr(module, "MAX_BYTES", 1000)

        with pytest.raises(CorruptBaseline, match=r"unpacks to \d+ bytes, more than any sidecar"):
            parse_sidecar(CONTENT, REF, path=PATH)

    def test_a_header_that_claims_more_than_there_is_of_memory(self):
        small, large = b"(9999,), }", b"(1099511627776,), }"
        array = npy_of(np.zeros(9999)).replace(small.ljust(len(large)), large)

        with pytest.raises(CorruptBaseline, match="llocate"):
            parse_sidecar(archive_of(**{"seeds.npy": array}), REF, path=PATH)

    @given(
        places=st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=4),
        end=st.none() | st.integers(0, len(CONTENT)),
    )
    @settings(max_examples=50, deadline=None)
    def test_damaged_bytes_are_refused_or_harmless(self, places, end):
        content = bytearray(CONTENT)
        for place, byte in places:
            content[place] = byte
        clean = parse_sidecar(CONTENT, REF, path=PATH).arrays
        try:
            found = parse_sidecar(bytes(content[:end]), REF, path=PATH).arrays
        except CorruptBaseline:
            return

        assert all(np.array_equal(clean[name], found[name], equal_nan=True) for name in clean)

    def test_a_reference_is_named_after_its_digest(self):
        with pytest.raises(ValueError, match="not named after its digest"):
            SidecarRef(file=REF.file, digest=f"blake3:{'0' * 32}")
