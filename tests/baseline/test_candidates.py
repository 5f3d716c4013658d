import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.baselines import make_baseline, make_whole_baseline
from rectest.baseline import candidates as module
from rectest.baseline.candidates import opened
from rectest.baseline.store import BaselineStore, StoredName
from rectest.baseline.text import render_baseline
from rectest.errors import CorruptBaseline, UpdateRefused

TOY = StoredName(env_class="cpu", system="toy")
CONTENT = render_baseline(make_baseline(5))


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("around", [".", "candidates", "report/candidates", "job/report/candidates"])
class TestPlaces:
    def test_a_folder(self, tmp_path, around):
        BaselineStore(tmp_path / around).save(make_baseline(5))
        (tmp_path / "gate.json").write_text("{}")

        with opened(tmp_path) as found:
            assert found.entries() == [TOY]
            assert found.root == tmp_path / around

    def test_a_zip(self, tmp_path, around):
        baseline, sidecar = make_whole_baseline(5)
        store = BaselineStore(tmp_path / "store")
        store.save(baseline, sidecar=sidecar)
        files = [
            (f"{around}/cpu/{path.name}".removeprefix("./"), path.read_bytes()) for path in store.root.glob("cpu/*")
        ]
        with opened(zip_of(tmp_path / "a.zip", ("readme.txt", b"x"), *files)) as found:
            root = found.root
            kept = found.read_whole(TOY)

            assert kept[0].ensemble == baseline.ensemble
            assert kept[1] is not None
            assert not list(root.rglob("readme.txt"))
        assert not root.exists()


class TestFolder:
    def test_other_json_beside_candidates_does_not_hide_them(self, tmp_path):
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "gate.json").write_text('{"schema": 1}')
        BaselineStore(tmp_path / "candidates").save(make_baseline(5))

        with opened(tmp_path) as found:
            assert found.root == tmp_path / "candidates"

    def test_candidates_of_two_jobs_are_not_mixed(self, tmp_path):
        for job in ("cpu-job", "gpu-job"):
            BaselineStore(tmp_path / job).save(make_baseline(5))

        with (
            pytest.raises(UpdateRefused, match=r"in several folders of .*: cpu-job, gpu-job; name the one"),
            opened(tmp_path),
        ):
            pass
        with opened(tmp_path / "gpu-job") as found:
            assert found.entries() == [TOY]

    @pytest.mark.parametrize("depth", [0, 3])
    def test_nothing_there(self, tmp_path, depth):
        (tmp_path / "x" / "y").mkdir(parents=True)
        place = tmp_path if depth else tmp_path / "absent"

        with pytest.raises(UpdateRefused, match=f"no candidates in {place}"), opened(place):
            pass

    def test_deeper_than_an_artifact_is_not_searched(self, tmp_path):
        BaselineStore(tmp_path / "a" / "b" / "c" / "d").save(make_baseline(5))

        with pytest.raises(UpdateRefused, match="no candidates"), opened(tmp_path):
            pass

    def test_a_damaged_candidate_is_read_and_named_and_not_skipped(self, tmp_path):
        BaselineStore(tmp_path).save(make_baseline(5)).write_text('{"schema": 2, ')

        with opened(tmp_path) as found, pytest.raises(CorruptBaseline, match=r"toy\.json"):
            found.read(TOY)


class TestZip:
    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("../cpu/toy.json", "leaves the folder"),
            ("cpu/../../toy.json", "leaves the folder"),
            ("/cpu/toy.json", "leaves the folder"),
            ("cpu\\..\\..\\toy.json", "leaves the folder"),
            ("C:/cpu/toy.json", "leaves the folder"),
        ],
    )
    def test_a_name_that_leaves_the_folder_unpacks_nothing(self, tmp_path, name, problem):
        """Control: the same content under a harmless name is a candidate."""
        before = set(tmp_path.parent.rglob("*"))
        path = zip_of(tmp_path / "a.zip", ("cpu/toy.json", CONTENT), (name, CONTENT))

        with pytest.raises(UpdateRefused, match=f"{problem} .*nothing was unpacked"), opened(path):
            pass
        assert {path} == set(tmp_path.parent.rglob("*")) - before

        with opened(zip_of(tmp_path / "b.zip", ("cpu/toy.json", CONTENT))) as found:
            assert found.read(TOY).system == "toy"

    def test_a_link_is_refused(self, tmp_path):
        link = zipfile.ZipInfo("cpu/toy.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16

        with (
            pytest.raises(UpdateRefused, match="is no plain file; nothing"),
            opened(zip_of(tmp_path / "a", (link, b"/x"))),
        ):
            pass

    def test_two_files_of_one_name_are_refused(self, tmp_path):
        with pytest.warns(UserWarning, match="Duplicate"):
            zip_of(tmp_path / "a.zip", ("cpu/toy.json", CONTENT), ("cpu/toy.json", b"{}"))

        with pytest.raises(UpdateRefused, match="two files of one name"), opened(tmp_path / "a.zip"):
            pass

    @pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_BYTES"])
    def test_more_than_candidates_ever_are_is_refused(self, tmp_path, monkeypatch, limit):
        path = zip_of(tmp_path / "a.zip", ("cpu/toy.json", CONTENT), ("cpu/b.json", CONTENT))
        monkeypatch.setattr(module, limit, 1)

        with pytest.raises(UpdateRefused, match="more than any candidates; nothing was unpacked"), opened(path):
            pass

    @pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06half"])
    def test_a_file_that_is_no_zip(self, tmp_path, content):
        (tmp_path / "a.zip").write_bytes(content)

        problem = "neither a folder of candidates nor a readable zip"
        with pytest.raises(UpdateRefused, match=problem), opened(tmp_path / "a.zip"):
            pass

    def test_a_member_without_a_name(self, tmp_path):
        path = zip_of(tmp_path / "a.zip", ("cpu/toy.json", CONTENT))
        path.write_bytes(path.read_bytes().replace(b"cpu/toy.json", b"\0pu/toy.json"))

        with pytest.raises(UpdateRefused, match="neither a folder of candidates"), opened(path):
            pass

    def test_an_encrypted_zip(self, tmp_path):
        path = zip_of(tmp_path / "a.zip", ("cpu/toy.json", CONTENT))
        content = bytearray(path.read_bytes())
        content[6] |= 1
        content[content.rindex(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)

        with pytest.raises(UpdateRefused, match=r"nor a readable zip of one .*password"), opened(path):
            pass

    @given(data=st.data())
    @settings(max_examples=50, deadline=None)
    def test_a_damaged_zip_is_refused_or_whole(self, tmp_path_factory, data):
        path = zip_of(tmp_path_factory.mktemp("zip") / "a.zip", ("cpu/toy.json", CONTENT))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            with opened(path) as found:
                kept = [found.read(name) for name in found.entries()]
        except (UpdateRefused, CorruptBaseline):
            return
        finally:
            path.unlink()

        assert all(render_baseline(each) == CONTENT for each in kept)
