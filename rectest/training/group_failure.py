"""Which rank of a group failed by itself, and how that is said.

When one process of a group raises or dies, the others only see a broken connection; when it hangs, they only wait.
This file describes an error where it happens, picks the first cause from what all ranks left, and words it. It starts
no process and reads no file.
"""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch.distributed as dist

from rectest.errors import ChildFailed, RectestError, TrainingError
from rectest.training.child import is_memory

__all__ = ["RankError", "describe", "died", "failed", "first_to_fail", "hung"]

_LOST_CONNECTION = ("Connection", "connection", "Broken pipe", "gloo", "NCCL", "peer")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankError:
    """What one rank says about its own failure."""

    kind: str
    """``raised``, ``memory``, ``load`` (the function could not be had) or ``place`` (its device or backend)."""

    text: str
    """What the rank did, as the end of a sentence that begins with its name."""

    secondary: bool
    """Whether it looks like the loss of a connection to a rank that failed before."""

    time: int
    """When it happened, in nanoseconds since the epoch."""

    traceback: str

    def to_bytes(self) -> bytes:
        """JSON, for a file or a store."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> RankError:
        """The inverse of `to_bytes`."""
        return cls(**json.loads(content))


def describe(error: BaseException, *, phase: str, function: str) -> RankError:
    """What to tell of `error`, which came up in `phase` (``load``, ``place`` or ``run``) of the work of a rank."""
    named = isinstance(error, RectestError)
    kind, text = "raised", f"raised {type(error).__name__}: {str(error) or type(error).__name__}"
    if is_memory(error):
        kind, text = "memory", f"ran out of memory ({(str(error) or type(error).__name__).splitlines()[0]})"
    elif isinstance(error, SystemExit):
        text = f"called sys.exit({error.code!r}) and left no result"
    elif phase == "load":
        kind, text = "load", _not_loaded(error, function)
    elif named:
        kind, text = ("place" if phase == "place" and isinstance(error, TrainingError) else kind), f"raised {error}"
    return RankError(
        kind=kind,
        text=text,
        secondary=phase != "load" and not named and any(map(_lost_connection, _chain(error))),
        time=time.time_ns(),
        traceback="".join(traceback.format_exception(error)),
    )


def _not_loaded(error: BaseException, function: str) -> str:
    text = f"could not load {function} with its arguments ({type(error).__name__}: {error})"
    if isinstance(error, ModuleNotFoundError | AttributeError):
        text += "; define it in a module that a fresh interpreter can import, or name its folder in sys_path"
    return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _lost_connection(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST_CONNECTION)


def first_to_fail(errors: Mapping[int, RankError], dead: Mapping[int, int]) -> int:
    """The rank to blame, of those with an error and those that vanished with an exit code and said nothing.

    A process that vanished comes first, because an error in another one may be its consequence. The exception is an
    abort: with NCCL it is how a rank ends that lost another one, so an error of somebody's own goes before it.
    """

    def order(rank: int) -> tuple[bool, bool, int]:
        if rank in dead:
            return dead[rank] == -signal.SIGABRT, False, rank
        return errors[rank].secondary, True, errors[rank].time

    return min({**errors, **dead}, key=order)


def failed(subject: str, rank: int, world_size: int, error: RankError, *, log: str, more: str = "") -> RectestError:
    """The error to raise for a rank that could still speak.

    Args:
        log: the end of what the rank printed; its traceback is added.
        more: the end of the sentence.
    """
    detail = f"rank {rank} of {world_size} {error.text}{more}"
    if error.kind == "place":
        return TrainingError(error.text.removeprefix("raised "))
    reason = {"memory": "memory", "load": "start"}.get(error.kind, "raised")
    said = f"{log}\n{error.traceback}" if log else error.traceback
    return ChildFailed(subject, reason=reason, detail=detail, log=said)


def died(
    subject: str, rank: int, world_size: int, code: int, *, stages: Sequence[str], log: str, more: str = ""
) -> ChildFailed:
    """The error to raise for a rank that vanished without a word."""
    lines = log.strip().splitlines() or ["nothing"]
    told = ("what():", "Fatal Python error")  # what C++ says of an abort is worth more than that it was one
    last = next((line.strip() for word in told for line in lines if line.strip().startswith(word)), lines[-1])
    if code < 0:
        how = f"was killed by {_signal(-code)} after {_last(stages)!r}"
        if -code == signal.SIGKILL:
            how += " (on Linux that is mostly the out-of-memory killer, look at dmesg)"
    else:
        how = f"ended with exit code {code} and no result after {_last(stages)!r}"
        if not stages:
            how += ' (a script that starts ranks needs its work under `if __name__ == "__main__":`)'
    detail = f"rank {rank} of {world_size} {how}; it last said: {last}{more}"
    return ChildFailed(subject, reason="killed" if code < 0 else "start", detail=detail, log=log)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def hung(world_size: int, stages: Mapping[int, Sequence[str]], deadline: float) -> tuple[list[int], str]:
    """The ranks that are furthest behind, and the sentence that names them.

    Args:
        stages: of each rank that still runs, the names of the parts of its work that it began.
        deadline: seconds that the group had.
    """
    least = min(map(len, stages.values()))
    behind = [rank for rank in sorted(stages) if len(stages[rank]) == least]
    names = " and ".join(f"rank {rank}" for rank in behind)
    places = " and ".join(dict.fromkeys(repr(_last(stages[rank])) for rank in behind))
    num_others = world_size - len(behind)
    them = "it" if len(behind) == 1 else "them"
    others = f", the other {num_others} wait for {them}" if num_others else ", which is as far as any came"
    detail = (
        f"{names} of {world_size} did not come past {places}{others}; the deadline of {deadline:g} s ended all ranks"
    )
    return behind, detail


def _last(stages: Sequence[str]) -> str:
    return stages[-1] if stages else "the start of the process"
