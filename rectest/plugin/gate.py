"""`rec_gate`: train a few seeds, hold them against the stored baseline, and update or leave candidates when asked.

The outcome for one spec is worked out once per test run and kept beside the run cache, so that every worker and
every test item sees the same one.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from rectest.plugin.collect import GATE_NOTE, attach, attach_note
from rectest.plugin.train import Trainer, one_message

if TYPE_CHECKING:
    from rectest.baseline.gating import Judged
    from rectest.baseline.schema import Baseline
    from rectest.checks.result import CheckResult
    from rectest.record import RunRecord, RunSpec

__all__ = ["Gate", "require_green"]

EXACT, PAIRED = "baseline/exact", "baseline/paired"


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
    """A gate without a baseline measured nothing, so UNCALIBRATED is red; only the ensemble lane must have one."""
    from rectest.checks.result import Verdict

    return result.red or (result.verdict is Verdict.UNCALIBRATED and result.check not in (EXACT, PAIRED))


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
        """All that is not the exact lane; without a baseline for this environment class it is red."""
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
            if not path.exists():
                judged = self._judge(spec)
                evidence = None if judged.evidence is None else judged.evidence.to_dict()
                kept = {"results": [result.to_dict() for result in judged.results], "evidence": evidence}
                atomic_write(path, json.dumps(kept).encode())
            attach_note(self.item, f"{GATE_NOTE}{spec.key}", str(path))
            kept = json.loads(path.read_text())
            return [CheckResult.from_dict(values) for values in kept["results"]]

    def _judge(self, spec: RunSpec) -> Judged:
        __tracebackhide__ = True
        from rectest.baseline.gating import judge_against, look
        from rectest.baseline.store import BaselineStore
        from rectest.baseline.update import Action, State, plan_update

        self._refuse_file_world(spec)
        options = self.trainer.options
        store = BaselineStore(options.baselines)
        train, max_runs = self.trainer.many, options.gate_seeds
        records, judged = look(store, spec, train, max_runs=max_runs, progress=self.trainer.progress)
        if options.update is not None:
            action = plan_update(options.update, judged.state)
            if action is Action.EXTEND and judged.baseline is not None:
                self._extend(store, judged.baseline, self._train(spec, options.gate_seeds))
            elif action is Action.RECORD:
                self._record(store, spec)
            if action is not Action.KEEP:
                judged = judge_against(store, spec, records, max_runs=max_runs)
        if options.candidates is not None and judged.state in (State.ABSENT, State.CORRUPT, State.FAILED):
            self._record(BaselineStore(options.candidates), spec)
        return judged

    def _train(self, spec: RunSpec, num_seeds: int) -> list[RunRecord]:
        __tracebackhide__ = True
        return self.trainer.many([spec.with_(seed=spec.seed + offset) for offset in range(num_seeds)])

    def _refuse_file_world(self, spec: RunSpec) -> None:
        from rectest.errors import BaselineError

        if ":" in spec.world:
            msg = f"{spec.world} is a file: a baseline needs a world that everybody has, under a name"
            raise BaselineError(msg)

    def _record(self, store: Any, spec: RunSpec) -> None:
        __tracebackhide__ = True
        from rectest.baseline.recording import record_baseline

        options = self.trainer.options
        num_seeds = max(options.seeds, options.gate_seeds)
        made = record_baseline(spec, self.trainer.many, num_seeds=num_seeds, reason=self._reason("recorded"))
        store.save(made.baseline, sidecar=made.sidecar, replace=True)

    def _extend(self, store: Any, baseline: Baseline, records: Sequence[RunRecord]) -> None:
        from rectest.baseline.build import extend_baseline

        extended = extend_baseline(baseline, records, reason=self._reason("this environment's bits"))
        store.save(extended, extends=baseline)

    def _reason(self, what: str) -> str:
        options = self.trainer.options
        return options.reason or f"{what} by --rectest-update={options.update or 'none'}"
