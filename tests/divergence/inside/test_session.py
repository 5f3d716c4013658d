"""The recording of one process: a block of draws belongs to the phase in which it began, not to that of its writing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rectest.divergence.inside.session import Config, Session
from rectest.divergence.tapes import load_run


class Hasher:
    """Stands for a digest of nothing."""

    def hexdigest(self) -> str:
        return "00"


def draw(session: Session, site: str) -> None:
    session.drawing("torch.rand", "torch", site, state=lambda: "00", new_digest=Hasher).count += 1


@pytest.mark.parametrize("enabled", [True, False])
def test_draws_keep_the_phase_in_which_they_were_made(tmp_path: Path, enabled: bool) -> None:
    session = Session(Config(tape=str(tmp_path)), process="main", header={})
    session.forwarded = session.trained = True
    with torch.set_grad_enabled(enabled):
        draw(session, "train.py:1:a")
        draw(session, "train.py:1:a")
    with torch.set_grad_enabled(not enabled):
        session.event("loss", "loss")
    session.close("exit")

    drawn, loss = load_run(tmp_path).tapes["main"].events

    assert ("train", "eval") == ((drawn.phase, loss.phase) if enabled else (loss.phase, drawn.phase))
    assert 2 == drawn.info["count"]
