"""Recording a piece of one's own process, for notebooks and loops: ``with rectest.capture("a.tape"): train()``.

Two such tapes are compared by ``rectest.why("a.tape", "b.tape")`` or ``rectest why a.tape b.tape``. Functions that the
process bound before the recording began (``from random import sample``) are not seen to draw; the states of the global
generators after each step are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rectest.divergence.finding import Finding
from rectest.divergence.inside.session import Config, Session, active
from rectest.divergence.inside.sites import set_root
from rectest.divergence.inside.start import finish, header, install, note_process
from rectest.errors import TapeError, WatchError

__all__ = ["Answer", "capture", "why"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of a comparison; its text is what the command prints."""

    finding: Finding
    text: str

    def __str__(self) -> str:
        return self.text


@contextmanager
def capture(
    path: str | os.PathLike[str], *, watch: bool = True, modules: bool = True, sample: int = 0
) -> Iterator[Path]:
    """Record what happens inside onto a tape, and leave torch, NumPy and random as they were found.

    Args:
        path: folder of the tape; it must not hold one yet.
        watch: whether draws, seeds and other sources of randomness are noted with their lines.
        modules: whether the output of every module is digested, not only of the outermost.
        sample: digest about so many elements of each tensor; 0 for all of them.

    Raises:
        TapeError: `path` exists and is not an empty folder.
        WatchError: this process is being recorded already.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TapeError(folder, "exists already; give another name, or remove it first")
    if active() is not None:
        msg = "this process is being recorded already; end that recording first (rectest why records whole scripts)"
        raise WatchError(msg)
    config = Config(tape=str(folder), root=str(Path.cwd()), watch=watch, modules=modules, sample=sample)
    set_root(config.root)
    session = Session(config, process="main", header=header(config))
    session.patches.on_undo(partial(set_root, ""))
    session.start()
    end = "exit"
    try:
        note_process(session)
        install(session)
        yield folder
    except BaseException as e:
        end = f"exception: {type(e).__name__}: {e}".splitlines()[0]
        raise
    finally:
        finish(session, end)


def why(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Answer:
    """Where two recorded runs part, and which line did it.

    Raises:
        TapeError: a tape is missing, damaged, or of another version.
    """
    from rectest.divergence.answer import answer
    from rectest.divergence.compare import compare_runs
    from rectest.divergence.tapes import load_run

    finding = compare_runs(load_run(Path(first)), load_run(Path(second)))
    return Answer(finding=finding, text="\n".join(answer(finding, roots=[Path.cwd()], can_confirm=False)))
