"""`rec_gate`: train a few seeds, hold them against the stored baseline, and update or leave candidates when asked.

The outcome for one spec is worked out once per test run and kept beside the run cache, so that every worker and
every test item sees the same one.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rectest.plugin.collect import GATE_NOTE, attach, attach_gate, attach_note
from rectest.plugin.exit_status import refuse_reruns
from rectest.plugin.train import Trainer, one_message
from rectest.plugin.why import why_red

if TYPE_CHECKING:
    from rectest.baseline.gating import Judged
    from rectest.baseline.recording import Recording
    from rectest.baseline.refusals import Judge
    from rectest.baseline.schema import Baseline
    from rectest.baseline.store import BaselineStore
    from rectest.checks.result import CheckResult
    from rectest.record import RunRecord, RunSpec

__all__ = ["Gate", "require_green"]

EXACT, PAIRED, SEEDS, CANDIDATE = (f"baseline/{name}" for name in ("exact", "paired", "seeds", "candidate"))


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
    failed = [result for result in results if red(result)]
    if failed:
        pytest.fail("\n\n".join([*map(render, failed), *why_red(item, failed)]), pytrace=False)


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
        refuse_reruns(self.item)
        path = folder / f"gate-{spec.key}.json"
        with one_message(self.item, spec.system), FileLock(folder / f"gate-{spec.key}.lock"):
            if not path.exists():
                judged = self._judge(spec)
                evidence = None if judged.evidence is None else judged.evidence.to_dict()
                kept = {"results": [result.to_dict() for result in judged.results], "evidence": evidence}
                atomic_write(path, json.dumps(kept).encode())
            attach_note(self.item, f"{GATE_NOTE}{spec.key}", str(path))
            kept = json.loads(path.read_text())
            if kept["evidence"] is not None:
                attach_gate(self.item, kept["evidence"])
            return [CheckResult.from_dict(values) for values in kept["results"]]

    def _judge(self, spec: RunSpec) -> Judged:
        __tracebackhide__ = True
        from dataclasses import replace
        from functools import partial

        from rectest.baseline.gating import judge_against, look
        from rectest.baseline.store import BaselineStore
        from rectest.baseline.update import Action, State, plan_update
        from rectest.plugin.nightly import nightly_look

        self._refuse_odd_asking(spec)
        options = self.trainer.options
        store = BaselineStore(options.baselines)
        train, max_runs = self.trainer.many, options.gate_seeds
        looking = partial(nightly_look, folder=self.trainer.folder) if options.nightly else look
        records, judged = looking(store, spec, train, max_runs=max_runs, progress=self.trainer.progress)
        if options.update is not None:
            action = plan_update(options.update, judged.state)
            if action is Action.EXTEND and judged.baseline is not None:
                self._extend(store, judged.baseline, self._train(spec, options.gate_seeds))
            notes = self._record(store, spec) if action is Action.RECORD else []
            if action is not Action.KEEP:
                judged = judge_against(store, spec, records, max_runs=max_runs)
                judged = replace(judged, results=(*judged.results, *notes))
        if options.candidates is not None and judged.state in (State.ABSENT, State.CORRUPT, State.FAILED):
            judged = self._propose(BaselineStore(options.candidates), spec, judged)
        return judged

    def _train(self, spec: RunSpec, num_seeds: int) -> list[RunRecord]:
        __tracebackhide__ = True
        return self.trainer.many([spec.with_(seed=spec.seed + offset) for offset in range(num_seeds)])

    def _refuse_odd_asking(self, spec: RunSpec) -> None:
        from rectest.errors import BaselineError

        options = self.trainer.options
        if options.nightly and (options.update is not None or options.candidates is not None):
            msg = "--rectest-nightly trains seeds of the night: neither an update nor a candidate is made of them"
            raise BaselineError(msg)
        if ":" in spec.world:
            msg = f"{spec.world} is a file: a baseline needs a world that everybody has, under a name"
            raise BaselineError(msg)

    def _record(self, store: BaselineStore, spec: RunSpec) -> list[CheckResult]:
        """Replace what is stored by a new recording, which goes on with its history; what to say of its seeds."""
        __tracebackhide__ = True
        from functools import partial

        from rectest.baseline.history import continued

        self._refuse_dirty(store)
        made, notes = self._recording(store, spec)
        combine = partial(continued, new_anchor=self.trainer.options.new_anchor)
        store.save(made.baseline, sidecar=made.sidecar, replace=True, combine=combine)
        return notes

    def _propose(self, candidates: BaselineStore, spec: RunSpec, judged: Judged) -> Judged:
        """Leave a candidate; one that may not become a baseline adds a result and hides none."""
        __tracebackhide__ = True
        from dataclasses import replace

        from rectest.checks.result import CheckResult, Verdict
        from rectest.errors import UpdateRefused

        try:
            made, notes = self._recording(candidates, spec)
        except UpdateRefused as e:
            subject, verdict = judged.results[0].subject, Verdict.NOT_MEASURED
            refused = CheckResult(check=CANDIDATE, subject=subject, verdict=verdict, figure=f"no candidate: {e}")
            return replace(judged, results=(*judged.results, refused))
        candidates.save(made.baseline, sidecar=made.sidecar, replace=True)
        return replace(judged, results=(*judged.results, *notes))

    def _recording(self, store: BaselineStore, spec: RunSpec) -> tuple[Recording, list[CheckResult]]:
        """A recording that may become a baseline: its seeds are stable, and no standing fault survives under it."""
        __tracebackhide__ = True
        from functools import partial

        from rectest.baseline.provenance import collect_provenance, with_provenance
        from rectest.baseline.recording import Recording, record_baseline
        from rectest.baseline.refusals import refuse_unfit
        from rectest.checks.result import CheckResult, Verdict

        options, reason = self.trainer.options, self._reason("recorded")
        num_seeds = max(options.seeds, options.gate_seeds)
        made = record_baseline(spec, self.trainer.many, num_seeds=num_seeds, reason=reason)
        warnings = refuse_unfit(made, survivors=partial(self._survivors, spec))
        environment = made.baseline.exact[made.baseline.ensemble.fingerprint].described()
        origin = collect_provenance(reason, environment=environment, apart_from=store.root)
        stamped = Recording(baseline=with_provenance(made.baseline, origin), sidecar=made.sidecar)
        name = made.baseline.name
        notes = [CheckResult(check=SEEDS, subject=name, verdict=Verdict.PASS, figure=text) for text in warnings]
        return stamped, notes

    def _survivors(self, spec: RunSpec, judge: Judge) -> Iterator[tuple[str, str, CheckResult]]:
        from rectest.faults.standing import standing_faults, surviving

        for fault, found in surviving(spec, judge, self.trainer.many, faults=standing_faults(spec.system)):
            yield fault.name, fault.about, found

    def _extend(self, store: BaselineStore, baseline: Baseline, records: Sequence[RunRecord]) -> None:
        from rectest.baseline.build import extend_baseline
        from rectest.baseline.provenance import collect_provenance

        self._refuse_dirty(store)
        reason = self._reason("this environment's bits")
        origin = collect_provenance(reason, environment=records[0].environment, apart_from=store.root)
        extended = extend_baseline(baseline, records, reason=reason, provenance=origin)
        store.save(extended, extends=baseline)

    def _refuse_dirty(self, store: BaselineStore) -> None:
        from rectest.baseline.provenance import git_state
        from rectest.baseline.refusals import dirty_reason, require

        options = self.trainer.options
        _, dirty = git_state(Path.cwd(), apart_from=store.root)
        require([dirty_reason(dirty, allowed=options.allow_dirty, reason=options.reason, options="--rectest-")])

    def _reason(self, what: str) -> str:
        options = self.trainer.options
        return options.reason or f"{what} by --rectest-update={options.update or 'none'}"
