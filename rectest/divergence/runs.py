"""Running a command under the recorder: several times, each run in a copy of the working directory.

Run 2 works in a copy of what run 1 left, so that a checkpoint or a cache that changes it is found; run 1 in a copy of
the original. Nothing of the user's directory changes unless `in_place` is asked for. Everything that differs on
purpose between the runs is set here: the hash seed, the order of directory listings, the directory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from rectest.divergence.inside.hashing import BORROWED
from rectest.divergence.inside.session import Config
from rectest.divergence.processes import Ended, run_watched
from rectest.divergence.rewriting import rewrite_orders
from rectest.divergence.workdir import MAX_BYTES, WorkingCopy, copy_tree, mark_copies, project_root
from rectest.errors import WatchError

__all__ = ["STARTUP", "Recorded", "record", "record_many"]

STARTUP = Path(__file__).parent / "startup"
"""The folder that on ``PYTHONPATH`` makes a Python process record itself, if ``RECTEST_WHY`` says so."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_LISTING_SEED = 7919


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """One run that is over."""

    tape: Path
    output: Path
    """What the command printed, standard output and error together."""

    status: int
    """Exit status; negative: the number of the signal that ended it."""

    seconds: float
    timed_out: bool = False
    """Whether the deadline ended it; the tape goes up to there."""

    tail: str = ""
    """Last lines of the output of a run that failed."""


def record_many(
    command: Sequence[str],
    *,
    out: Path,
    num_runs: int = 2,
    config: Config | None = None,
    pins: Sequence[str] = (),
    cwd: Path | None = None,
    workdir: Path | None = None,
    in_place: bool = False,
    deadline: float | None = None,
    env: Mapping[str, str] | None = None,
    max_bytes: int = MAX_BYTES,
    keep_copies: bool = False,
    variant: int = 0,
    on_run: Callable[[int, Recorded], None] | None = None,
) -> list[Recorded]:
    """Run a command several times one after the other; tapes are ``out/run1.tape``, ``out/run2.tape``, ...

    Args:
        command: program and arguments, as given in `cwd`.
        out: a directory for tapes, outputs and copies; made if absent, must hold no runs yet.
        num_runs: at least 1.
        config: what to record; its `tape`, `root`, `listing_seed` and `pins` are set here.
        pins: sources of difference to hold still: see `rectest.divergence.confirm`.
        cwd: directory the command is meant for; the current one by default.
        workdir: directory to copy; by default the git repository around `cwd`, or `cwd`.
        in_place: run in `cwd` itself and copy nothing.
        deadline: seconds for each run; None for no limit.
        env: environment of the command instead of this process's.
        max_bytes: a larger directory is refused.
        keep_copies: leave the working copies in `out`.
        variant: with another one, single runs differ in hash seed and listing order as runs of one call do.
        on_run: called after each run; what it raises ends the series.

    Raises:
        WatchError: the command is missing or recorded nothing, the directory is too large, or `out` is in use.
    """
    if num_runs < 1:
        msg = f"num_runs must be at least 1, found {num_runs}"
        raise ValueError(msg)
    environ = dict(os.environ if env is None else env)
    here = Path(os.path.abspath(cwd or Path.cwd()))  # noqa: PTH100  links in the path are the user's names
    if not here.is_dir():
        msg = f"the working directory {here} does not exist"
        raise WatchError(msg)
    program = _program(command, cwd=here, environ=environ)
    original = here if in_place else _root(here, workdir, max_bytes=max_bytes)
    out = out.absolute()
    _check_out(out, num_runs)
    recorded: list[Recorded] = []
    source = original
    try:
        for number in range(1, num_runs + 1):
            run_dir = original if in_place else out / f"run{number}.work" / original.name
            place = WorkingCopy(original=original, root=run_dir, cwd=run_dir / here.relative_to(original))
            if not in_place:
                mark_copies(run_dir.parent)
                copy_tree(original if "pristine" in pins else source, run_dir, max_bytes=max_bytes)
            recorded.append(
                record(
                    [program, *command[1:]],
                    out=out / f"run{number}",
                    place=place,
                    config=_config(config, variant + number, pins),
                    hash_seed=0 if "hash" in pins else variant + number,
                    deadline=deadline,
                    env=environ,
                )
            )
            source = run_dir
            if on_run is not None:
                on_run(number, recorded[-1])
    finally:
        if not (keep_copies or in_place):
            for number in range(1, num_runs + 1):
                shutil.rmtree(out / f"run{number}.work", ignore_errors=True)
    return recorded


def record(
    command: Sequence[str],
    *,
    out: Path,
    place: WorkingCopy,
    config: Config | None = None,
    hash_seed: int = 1,
    deadline: float | None = None,
    env: Mapping[str, str] | None = None,
) -> Recorded:
    """Run a command once in a directory that is ready for it.

    Args:
        command: program (absolute, or found by the system) and arguments.
        out: ``<out>.tape`` and ``<out>.txt`` are written.
        place: the directory; arguments that are paths into its original are led into it.
        config: what to record; `tape` and `root` are set here.
        hash_seed: ``PYTHONHASHSEED``.
        deadline: seconds; None for no limit.
        env: environment instead of this process's.

    Raises:
        WatchError: the command could not be started, or recorded nothing.
    """
    tape, output = out.with_name(f"{out.name}.tape"), out.with_name(f"{out.name}.txt")
    base = config or Config(tape="")
    config = replace(base, tape=str(tape), root=str(place.root))
    if config.locate_orders and place.root != place.original:
        rewrite_orders(place.root)
    tape.mkdir(parents=True)
    environ = _environ(os.environ if env is None else env, config, place, hash_seed=hash_seed)
    words = [place.translate(word) for word in command]
    ended = run_watched(words, cwd=place.cwd, env=environ, output=output, deadline=deadline, mark=str(tape))
    if not any(tape.glob("*.jsonl")):
        raise WatchError(_nothing_recorded(words, tape, output, ended))
    return Recorded(
        tape=tape,
        output=output,
        status=ended.status,
        seconds=ended.seconds,
        timed_out=ended.timed_out,
        tail=_last_lines(output) if ended.status else "",
    )


def _root(cwd: Path, workdir: Path | None, *, max_bytes: int) -> Path:
    if workdir is None:
        return project_root(cwd, max_bytes=max_bytes)
    root = Path(os.path.abspath(workdir))  # noqa: PTH100
    if not cwd.is_relative_to(root):
        msg = f"the directory to copy ({root}) does not hold the one the command runs in ({cwd}); name one that does"
        raise WatchError(msg)
    return root


def _program(command: Sequence[str], *, cwd: Path, environ: Mapping[str, str]) -> str:
    """The program as an absolute path, links kept: the python of a virtual environment is one."""
    if not command:
        msg = "no command was given; write it after two dashes, as in: rectest why -- python train.py"
        raise WatchError(msg)
    name = command[0]
    search = os.pathsep.join(str(cwd / entry) for entry in environ.get("PATH", os.defpath).split(os.pathsep))
    found = shutil.which(str(cwd / name) if os.sep in name else name, path=search)
    if found is None:
        hint = f"; to run a script, write: python {name}" if (cwd / name).is_file() else ""
        looked = cwd if os.sep in name else "PATH"
        msg = f"command {name!r} was not found or cannot be executed (looked in {looked}){hint}"
        raise WatchError(msg)
    return found


def _check_out(out: Path, num_runs: int) -> None:
    used = [out / f"run{number}.tape" for number in range(1, num_runs + 1) if (out / f"run{number}.tape").exists()]
    if used:
        msg = f"{used[0]} exists already; give an empty output directory, or remove it"
        raise WatchError(msg)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        msg = f"the output directory {out} cannot be made ({e}); give another one"
        raise WatchError(msg) from e


def _config(config: Config | None, number: int, pins: Sequence[str]) -> Config:
    """Listings keep their order in run 1 and are shuffled in each other run in a way of its own."""
    shuffle = number > 1 and "listing" not in pins
    return replace(config or Config(tape=""), listing_seed=_LISTING_SEED * number if shuffle else 0, pins=tuple(pins))


def _environ(base: Mapping[str, str], config: Config, place: WorkingCopy, *, hash_seed: int) -> dict[str, str]:
    environ = {name: value for name, value in base.items() if not name.startswith("RECTEST_WHY")}
    paths = [place.translate(path) for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environ |= {
        "PYTHONPATH": os.pathsep.join([str(STARTUP), *paths]),
        "PYTHONHASHSEED": str(hash_seed),
        "PWD": str(place.cwd),
        "RECTEST_WHY": json.dumps(asdict(config)),
        "RECTEST_WHY_RUN": config.tape,
        BORROWED: _xxhash(),
    }
    if place.root != place.original:
        # an editable install imports from the original directory: not even bytecode is written there
        environ |= {"PYTHONDONTWRITEBYTECODE": "1", "RECTEST_WHY_ORIGINAL": str(place.original)}
    if "threads" in config.pins:
        environ |= dict.fromkeys(_THREADS, "1")
    if "deterministic" in config.pins:
        environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return environ


def _xxhash() -> str:
    """Where rectest's own xxhash lies, for a script's environment that has none."""
    spec = find_spec("xxhash")
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else ""


def _nothing_recorded(words: Sequence[str], tape: Path, output: Path, ended: Ended) -> str:
    error = tape / "start-error.txt"
    if error.exists():
        reason = error.read_text(errors="replace").strip().rpartition("\n")[2]
        return f"the recorder could not start in the command ({reason}); {error} has the whole of it"
    said = _last_lines(output, num=1)
    return (
        f"{Path(words[0]).name} recorded nothing (exit status {ended.status}"
        f"{', its last line of output: ' + said if said else ''}); the command must start a Python process that reads "
        "PYTHONPATH: leave out -I, -E and -S, and do not clear the environment on the way"
    )


def _last_lines(output: Path, num: int = 12) -> str:
    with output.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 16384))
        lines = file.read().decode(errors="replace").rstrip().splitlines()
    return "\n".join(lines[-num:])
