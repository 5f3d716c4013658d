"""`rec_gate`: train a few seeds, hold them against the stored baseline, and update or leave candidates when asked.

The outcome for one spec is worked out once per test run and kept beside the run cache, so that every worker and
every test item sees the same one.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from rectest.plugin.collect import attach
from rectest.plugin.train import Trainer, one_message

if TYPE_CHECKING:
    from rectest.baseline.schema import Baseline
    from rectest.checks.result import CheckResult
    from rectest.record import RunRecord, RunSpec

__all__ = ["Gate", "require_green"]

EXACT = "baseline/exact"


def require_green(
    item: pytest.Item,
    results: Sequence[CheckResult],
    *,
    of: str = "",
    red: Callable[[CheckResult], bool] = operator.attrgetter("red"),
) -> None:
    """Attach `results` to `item` and fail it when one of them is red; an empty list is red too.

    Args:
        of: what was trained; it is put before the subject of each result, so that the summary can group them.
        red: which results fail the test.
    """
    __tracebackhide__ = True
    from dataclasses import replace

    from rectest.checks.result import render

    if of:
        results = [replace(r, subject=_owned(r.subject, of)) for r in results]
    for result in results:
        attach(item, result)
    if not results:
        pytest.fail("NOT MEASURED: no result at all came out of this check", pytrace=False)
    failed = [render(result) for result in results if red(result)]
    if failed:
        pytest.fail("\n\n".join(failed), pytrace=False)


def _owned(subject: str, of: str) -> str:
    """``comirec`` and ``comirec test`` become ``comirec`` and ``comirec/test``; ``item`` becomes ``comirec/item``."""
    rest = subject.removeprefix(of).strip() if subject.partition(" ")[0] == of else subject
    return f"{of}/{rest}" if rest else of


def red_in_gate(result: CheckResult) -> bool:
    """A gate without a baseline measured nothing, so UNCALIBRATED is red; only the exact lane may do without one."""
    from rectest.checks.result import Verdict

    return result.red or (result.verdict is Verdict.UNCALIBRATED and result.check != EXACT)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Judges specs against stored baselines, for one test item."""

    trainer: Trainer
    item: pytest.Item

    def __call__(self, target: Any, **settings: Any) -> list[CheckResult]:
        """Both lanes: the bits where this environment's are stored, and the distribution over seeds.

        The test fails when a lane is red or when there is no baseline for this environment class.
        """
        __tracebackhide__ = True
        results = self.outcome(self.trainer.spec(target, **settings))
        require_green(self.item, results, red=red_in_gate)
        return results

    def exact(self, target: Any, **settings: Any) -> list[CheckResult]:
        """The exact lane alone; the test is skipped, visibly, where no bits of this environment are stored."""
        __tracebackhide__ = True
        from rectest.checks.result import Verdict, render

        results = [r for r in self.outcome(self.trainer.spec(target, **settings)) if r.check == EXACT]
        if not results:
            return self.ensemble(target, **settings)
        require_green(self.item, results)
        for result in results:
            if result.verdict is Verdict.UNCALIBRATED:
                pytest.skip(render(result).replace("\n", ";"))
        return results

    def ensemble(self, target: Any, **settings: Any) -> list[CheckResult]:
        """The ensemble lane alone; without a baseline for this environment class it is red."""
        __tracebackhide__ = True
        results = [r for r in self.outcome(self.trainer.spec(target, **settings)) if r.check != EXACT]
        require_green(self.item, results, red=red_in_gate)
        return results

    def outcome(self, spec: RunSpec) -> list[CheckResult]:
        """The results for `spec`, worked out now or earlier in this test run."""
        __tracebackhide__ = True
        from filelock import FileLock

        from rectest.checks.result import CheckResult
        from rectest.record import atomic_write

        folder = self.trainer.folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"gate-{spec.key}.json"
        with one_message(self.item, spec.system), FileLock(folder / f"gate-{spec.key}.lock"):
            if path.exists():
                return [CheckResult.from_dict(values) for values in json.loads(path.read_text())]
            results = self._judge(spec)
            atomic_write(path, json.dumps([result.to_dict() for result in results]).encode())
            return results

    def _judge(self, spec: RunSpec) -> list[CheckResult]:
        __tracebackhide__ = True
        from rectest.baseline.store import BaselineStore
        from rectest.baseline.update import Action, State, plan_update

        self._refuse_file_world(spec)
        options = self.trainer.options
        store = BaselineStore(options.baselines)
        records, results, state, baseline = self._look(store, spec)
        if options.update is not None:
            action = plan_update(options.update, state)
            if action is Action.EXTEND and baseline is not None:
                self._extend(store, baseline, self._train(spec, options.gate_seeds))
            elif action is Action.RECORD:
                self._record(store, spec)
            if action is not Action.KEEP:
                results, state, _, _ = self._compare(store, spec, records)
        if options.candidates is not None and state in (State.ABSENT, State.CORRUPT, State.FAILED):
            self._record(BaselineStore(options.candidates), spec)
        return results

    def _look(self, store: Any, spec: RunSpec) -> tuple[list[RunRecord], list[CheckResult], Any, Baseline | None]:
        """Train the first seed and judge; another seed while nothing is decided, at most as many as the options say."""
        __tracebackhide__ = True
        options, num_seeds = self.trainer.options, 1
        while True:
            records = self._train(spec, num_seeds)
            results, state, baseline, undecided = self._compare(store, spec, records)
            if not undecided or num_seeds >= options.gate_seeds:
                return records, results, state, baseline
            num_seeds += 1

    def _train(self, spec: RunSpec, num_seeds: int) -> list[RunRecord]:
        __tracebackhide__ = True
        return self.trainer.many([spec.with_(seed=spec.seed + offset) for offset in range(num_seeds)])

    def _compare(
        self, store: Any, spec: RunSpec, records: Sequence[RunRecord]
    ) -> tuple[list[CheckResult], Any, Baseline | None, bool]:
        from rectest.baseline.judge import judge_exact, judge_sequential
        from rectest.baseline.update import State, state_of
        from rectest.checks.result import CheckResult, Verdict
        from rectest.errors import CorruptBaseline, NoBaseline

        env_class = records[0].environment.env_class
        subject = spec.system + (f"@{spec.world}" if spec.world else "")
        try:
            baseline = store.load(spec.system, env_class, spec.world)
        except NoBaseline as e:
            missing = CheckResult(
                check="baseline/ensemble",
                subject=subject,
                verdict=Verdict.UNCALIBRATED,
                figure=f"no baseline for environment class {env_class!r}",
                expected=str(_shown(e.path)),
                detail="what was never measured here cannot be compared; another class is never borrowed from",
                advice=_record_command(spec),
            )
            return [missing], State.ABSENT, None, False
        except CorruptBaseline as e:
            broken = CheckResult(
                check="baseline/ensemble",
                subject=subject,
                verdict=Verdict.NOT_MEASURED,
                figure=f"the baseline cannot be read: {e.problem}",
                expected=str(_shown(e.path)),
                detail="a damaged baseline judges nothing, and it is never repaired by guessing",
                advice=f"restore it from version control, or {_record_command(spec, mode='failed')}",
            )
            return [broken], State.CORRUPT, None, False
        exact = [r for record in records for r in judge_exact(record, baseline)]
        found = judge_sequential(records, baseline, max_runs=self.trainer.options.gate_seeds)
        results = [*_merged(exact), *found.results]
        same_bits = all(result.verdict is Verdict.PASS for result in exact)
        return results, state_of(results), baseline, found.undecided and not same_bits

    def _refuse_file_world(self, spec: RunSpec) -> None:
        from rectest.errors import BaselineError

        if ":" in spec.world:
            msg = f"{spec.world} is a file: a baseline needs a world that everybody has, under a name"
            raise BaselineError(msg)

    def _record(self, store: Any, spec: RunSpec) -> None:
        __tracebackhide__ = True
        from rectest.baseline.update import build_baseline

        options = self.trainer.options
        records = self._train(spec, max(options.seeds, options.gate_seeds))
        store.save(build_baseline(records, reason=self._reason("recorded")), replace=True)

    def _extend(self, store: Any, baseline: Baseline, records: Sequence[RunRecord]) -> None:
        from rectest.baseline.update import extend_baseline

        extended = extend_baseline(baseline, records, reason=self._reason("this environment's bits"))
        store.save(extended, extends=baseline)

    def _reason(self, what: str) -> str:
        options = self.trainer.options
        return options.reason or f"{what} by --rectest-update={options.update or 'none'}"


def _merged(exact: list[CheckResult]) -> list[CheckResult]:
    """One exact result for several seeds: the first that is red, else one that counts those that were compared."""
    from dataclasses import replace

    from rectest.checks.result import Verdict

    red = [result for result in exact if result.red]
    green = [result for result in exact if result.verdict is Verdict.PASS]
    if red or not green:
        return [(red or exact)[0]]
    plural = "s" if len(exact) != 1 else ""
    stored = "" if len(green) == len(exact) else f" of {len(exact)}"
    count = f"{len(green)}{stored} seed{plural}" + (" are stored" if stored else "")
    return [replace(green[0], figure=f"{count}, {green[0].figure.partition(': ')[2]}")]


def _record_command(spec: RunSpec, *, mode: str = "new") -> str:
    world = f" --rectest-world={spec.world}" if spec.world else ""
    device = f" --rectest-device={spec.device}" if spec.device != "cpu" else ""
    return f"record one on this machine: pytest -m gate --rectest-update={mode}{world}{device}"


def _shown(path: Any) -> str:
    return os.path.relpath(path) if path.is_relative_to(os.getcwd()) else str(path)  # noqa: PTH109
