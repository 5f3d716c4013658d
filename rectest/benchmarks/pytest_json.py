"""Runs out of the files that ``--benchmark-json`` writes: what was measured, where, and on which commit.

What a benchmark leaves in ``extra_info`` beside its times: ``environment`` (an `Environment` as plain values, under
``values``), ``memory`` (bytes by kind), ``cpu_seconds``, and ``spread``, how noisy its ratios were, which is not kept;
every other number there is a ratio.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rectest.benchmarks.history import RecordedRun, Timing
from rectest.environment import Environment
from rectest.errors import RecordError

__all__ = ["environment_values", "read_benchmark_json"]

_OWN = ("environment", "memory", "cpu_seconds", "spread")
_NOT_KEPT = ("data",)
"""Single rounds: they would be most of a history and are asked for by nothing."""


def read_benchmark_json(path: Path) -> list[RecordedRun]:
    """The runs in one file, one per environment class (benchmarks on the CPU and on CUDA are two).

    Raises:
        RecordError: not such a file, no benchmarks, one without its environment, or several machines in one file.
        OSError: the file cannot be read.
    """
    try:
        values = json.loads(path.read_bytes())
        found = list(_benchmarks(values["benchmarks"]))
        commit, dirty = _commit(values.get("commit_info") or {})
        date, machine = _date(values["datetime"]), _machine(values.get("machine_info") or {})
    except RecordError as e:
        raise RecordError(e.problem, path=path) from e
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        msg = f"not a file of pytest --benchmark-json ({type(e).__name__}: {e})"
        raise RecordError(msg, path=path) from e
    if not found:
        msg = "holds no benchmark; write it with: pytest tests/bench --benchmark-enable --benchmark-json=FILE"
        raise RecordError(msg, path=path)
    by_class: dict[str, dict[str, Timing]] = {}
    environments: dict[str, Environment] = {}
    for environment, timing in found:
        env_class = environment.env_class
        _require_one_machine(environments.setdefault(env_class, environment), environment, timing, path)
        if timing.name in by_class.setdefault(env_class, {}):
            msg = f"{timing.name} is in it twice; which of them counts is not known"
            raise RecordError(msg, path=path)
        by_class[env_class][timing.name] = timing
    return [
        RecordedRun(
            date=date,
            commit=commit,
            dirty=dirty,
            environment=environments[name],
            machine=machine,
            benchmarks=by_class[name],
        )
        for name in sorted(by_class)
    ]


def environment_values(environment: Environment) -> dict[str, Any]:
    """What ``extra_info["environment"]`` of a benchmark holds."""
    return {
        "class": environment.env_class,
        "fingerprint": environment.fingerprint,
        "summary": environment.describe(),
        "values": environment.to_dict(),
    }


def _benchmarks(rows: list[Mapping[str, Any]]) -> Iterator[tuple[Environment, Timing]]:
    for row in rows:
        name, extra = str(row["fullname"]), row["extra_info"]
        if "environment" not in extra:
            msg = (
                f"{name} does not say where it ran: extra_info['environment'] is missing; write the file where "
                "rectest's plugin is loaded, and take `benchmark` as an argument of the test"
            )
            raise RecordError(msg)
        stats = {key: value for key, value in row["stats"].items() if key not in _NOT_KEPT}
        yield (
            Environment.from_dict(extra["environment"]["values"]),
            Timing(
                name=name,
                stats=stats,
                cpu_seconds=extra.get("cpu_seconds"),
                memory=dict(extra.get("memory", {})),
                ratios=dict(_ratios(extra, name)),
                group=row.get("group"),
                param=row.get("param"),
                params=row.get("params"),
            ),
        )


def _ratios(extra: Mapping[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """Numbers beside ours, by name; those of a mapping carry its name, except ``ratios`` itself."""
    for key, value in extra.items():
        if key in _OWN:
            continue
        if isinstance(value, Mapping):
            inner = {f"{key}/{sub}" if key != "ratios" else str(sub): each for sub, each in value.items()}
            yield from _ratios(inner, name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield key, float(value)


def _require_one_machine(first: Environment, other: Environment, timing: Timing, path: Path) -> None:
    if first.fingerprint != other.fingerprint:
        told = ", ".join(f"{key} {a!r} and {b!r}" for key, (a, b) in first.differences(other).items())
        msg = f"{timing.name} was measured elsewhere than the benchmarks before it ({told}); one machine a file"
        raise RecordError(msg, path=path)


def _commit(info: Mapping[str, Any]) -> tuple[str | None, bool | None]:
    """The commit that was measured, None outside version control."""
    commit = info.get("id")
    if not commit or commit == "unversioned":
        return None, None
    dirty = info.get("dirty")
    return str(commit), None if dirty is None else bool(dirty)


def _date(text: str) -> str:
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _machine(info: Mapping[str, Any]) -> dict[str, str]:
    """What tells machines apart and is the same tomorrow: not the host's name, which is new in every CI job."""
    cpu = info.get("cpu") or {}
    values = {
        "cpu": cpu.get("brand_raw") or info.get("processor"),
        "cores": cpu.get("count"),
        "system": info.get("system"),
        "machine": info.get("machine"),
    }
    return {key: str(value) for key, value in values.items() if value}
