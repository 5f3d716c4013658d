"""No divergence is claimed where there is none, and recording changes no bit of what is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.why.planted import STYLES, write_project
from fixtures.why.watching import fingerprint, is_identical, missing, python, run_script, watch

pytestmark = pytest.mark.slow

REPEATS = {"plain_loop": 18, "workers": 16, "queue_sampler": 16, "lightning_module": 5, "hf_trainer": 5}
"""Runs of each style: fifty where neither Lightning nor transformers is installed."""


def needs(style: str) -> None:
    if package := missing(style):
        pytest.skip(f"{package} is not installed in {python()}")


@pytest.mark.parametrize("style", STYLES)
def test_clean_repeats_are_identical(style: str, tmp_path: Path):
    needs(style)
    project = tmp_path / "project"
    write_project(project, style)

    watched = watch(project, options=("--runs", str(REPEATS[style])))

    assert is_identical(watched), watched.text


@pytest.mark.parametrize(
    "options", [(), ("--fast",), ("--no-modules",), ("--sample", "8")], ids=lambda o: "".join(o) or "all"
)
@pytest.mark.parametrize("style", STYLES)
def test_recording_changes_no_bit(style: str, options: tuple[str, ...], tmp_path: Path):
    needs(style)
    project, kept = tmp_path / "project", tmp_path / "kept"
    write_project(project, style)

    expected = fingerprint(run_script(project))
    watched = watch(project, options=(*options, "--keep", str(kept)))
    obtained = {fingerprint((kept / f"run{number}.txt").read_text()) for number in (1, 2)}

    assert is_identical(watched), watched.text
    assert expected
    assert {expected} == obtained
