"""``rectest attribute``: what made a gate red, found by training the base commit in this environment.

This file owns what is trained, in which order, and how the answer is printed. What the runs mean is for
`rectest.baseline.attribution`; another commit as a folder is `rectest.training.worktree`, training with its code
`rectest.training.commits`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rectest.cli.console import make_console
from rectest.cli.options import import_path

if TYPE_CHECKING:
    from rectest.baseline.attribution import Attribution, Side
    from rectest.baseline.recording import TrainMany
    from rectest.baseline.schema import Baseline
    from rectest.baseline.store import BaselineStore
    from rectest.record import RunRecord, RunSpec
    from rectest.training.commits import Code
    from rectest.training.worktree import Repository

__all__ = ["command"]

_MOST_FILES = 20
_REMOTES = ("origin/main", "origin/master")


def command(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="A registered system or module:attribute.")],
    base: Annotated[
        str,
        typer.Option(
            metavar="COMMIT", help="Where the change began; by default the commit that the baseline was recorded with."
        ),
    ] = "",
    world: Annotated[str, typer.Option(help="The world of the baseline; the system's own by default.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    seeds: Annotated[int, typer.Option(min=2, max=5, metavar="N", help="Seeds trained at most for each answer.")] = 5,
    baselines: Annotated[Path, typer.Option(metavar="DIR", help="Folder of stored baselines.")] = Path("baselines"),
    deadline: Annotated[float, typer.Option(help="Seconds one training may take.")] = 600.0,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", dir_okay=False, help="Also write the answer there.")
    ] = None,
) -> None:
    """Say whether code, environment, data or seeds made a gate red, and by what evidence.

    Trains the working tree and the base commit (in a temporary git worktree) on the same seeds, in this environment.
    Exit code 0 when a cause is shown or the gate is green, 1 when nothing can be said for sure.
    """
    from rectest.baseline.attribution import Cause
    from rectest.baseline.store import BaselineStore
    from rectest.training.worktree import Repository

    repository = Repository.containing(Path.cwd())
    store = BaselineStore(baselines)
    stored = _stored(store, system, world, device)
    commit, why = _base(repository, store, stored, base)
    job = _Job(
        repository=repository, store=store, stored=stored, commit=commit, seeds=seeds, device=device, deadline=deadline
    )
    found = job.attributed()
    folder, _, module = job.module.replace(".", "/").rpartition("/")
    near = f"{folder}/" if folder else f"{module}.py"
    changed = sorted(repository.changed(commit, leaving_out=[baselines]), key=lambda line: near not in line)
    _print(found, base=f"{commit[:12]}, {why}", changed=changed if Cause.CODE in found.causes else ())
    if json_path is not None:
        from rectest.record import atomic_write

        content = {"schema": 1, **found.to_dict(), "base": commit, "base_is": why, "changed": changed}
        atomic_write(json_path, f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode())
    if Cause.UNDECIDED in found.causes:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One question: why is this baseline's gate red here, and was it so at that commit."""

    repository: Repository
    store: BaselineStore
    stored: Baseline
    commit: str
    seeds: int
    device: str
    deadline: float

    @property
    def spec(self) -> RunSpec:
        """What the baseline was recorded with, from its first seed on."""
        from rectest.record import RunSpec

        stored = self.stored
        return RunSpec(
            system=stored.system,
            world=stored.world,
            seed=stored.ensemble.seeds[0],
            steps=stored.spec.steps,
            eval_every=stored.spec.eval_every,
            config=dict(stored.spec.config),
            device=self.device,
        )

    @property
    def module(self) -> str:
        """The module that the system is imported from."""
        from rectest.systems.registry import SYSTEMS

        return SYSTEMS.get(self.stored.system, self.stored.system).partition(":")[0]

    def attributed(self) -> Attribution:
        """Train what is needed, and no more, until the cause is known or cannot be."""
        from rectest.baseline.attribution import Case, attribute, nothing_red
        from rectest.training.worktree import worktree

        own = self._code(self.repository.root)
        self._refuse_foreign(own)
        _say(f"training the working tree of {self.stored.name}")
        tree = self._side(own.train, self.spec)
        if tree.green:
            return nothing_red(self.stored.name, tree)
        self.repository.refuse_dirty_submodules()
        with worktree(self.repository, self.commit) as folder:
            train = self._train_base(self._code(folder))
            _say(f"{tree.told()}; training the base commit {self.commit[:12]}")
            base = self._side(train, self.spec)
            case = Case(
                baseline=self.stored,
                sidecar=self.store.sidecar(self.stored),
                tree=tree,
                base=base,
                same_code=self._same_code(),
            )
            if case.wants_repeat:
                _say("training the first seed of the base commit once more")
                case = replace(case, repeat=train([self.spec.with_(replica=1)])[0])
        if case.wants_fresh:
            _say("training the working tree on fresh seeds")
            fresh = self.spec.with_(seed=max(self.stored.ensemble.seeds) + 1)
            case = replace(case, fresh=self._side(own.train, fresh))
        return attribute(case)

    def _code(self, root: Path) -> Code:
        from rectest.training.commits import Code

        return Code(root=root, repository=self.repository.root, import_path=import_path(), deadline=self.deadline)

    def _side(self, train: TrainMany, spec: RunSpec) -> Side:
        from rectest.baseline.attribution import Side
        from rectest.baseline.gating import look
        from rectest.errors import BaselineError

        records, judged = look(self.store, spec, train, max_runs=self.seeds)
        if judged.baseline is None or judged.baseline.env_class != self.stored.env_class:
            msg = f"{judged.results[0].figure}; {judged.results[0].advice}"
            raise BaselineError(msg)
        return Side(records=records, judged=judged)

    def _refuse_foreign(self, own: Code) -> None:
        """Refuse a system whose code is no part of this repository: no commit of it would train another one."""
        from rectest.errors import RectestError

        file = own.file_of(self.module)
        if file is None or not file.is_relative_to(own.root):
            found = f"is loaded from {file}" if file else "cannot be imported"
            msg = f"{self.module} {found}, and not from {own.root}: no commit there changes what is trained"
            raise RectestError(msg)

    def _train_base(self, code: Code) -> TrainMany:
        """Training of the base commit; that it cannot be trained is told as such."""
        from rectest.errors import ChildFailed, RectestError

        file = code.file_of(self.module)
        if file is None or not file.is_relative_to(code.root):
            found = f"would load {self.module} from {file}" if file else f"has no {self.module}"
            msg = f"the base commit {self.commit[:12]} {found}; choose a later one with --base"
            raise RectestError(msg)

        def train(specs: Sequence[RunSpec]) -> list[RunRecord]:
            try:
                return code.train(specs)
            except ChildFailed as e:
                if e.log:
                    sys.stderr.write(f"{e.log.rstrip()}\n")
                msg = (
                    f"the base commit {self.commit[:12]} cannot be trained here: {e.detail}; it may lack the system or "
                    "the world, have an older interface, or need files that git does not hold: choose a later --base"
                )
                raise RectestError(msg) from e

        return train

    def _same_code(self) -> bool:
        """Whether nothing but baselines changed from the recording to the base."""
        origin = self.stored.provenance
        if origin.dirty is not False or origin.commit is None or self.repository.find(origin.commit) is None:
            return False
        return not self.repository.changed(origin.commit, until=self.commit, leaving_out=[self.store.root])


def _stored(store: BaselineStore, system: str, world: str, device: str) -> Baseline:
    """The one baseline that is meant.

    Raises:
        RectestError: nothing is stored under this name and kind of device, or several classes are.
    """
    from rectest.errors import BaselineError, UnknownNameError

    kind = device.partition(":")[0]
    names = [name for name in store.entries() if name.env_class.partition("-")[0] == kind]
    if system not in {name.system for name in names}:
        raise UnknownNameError("baseline", system, {name.system for name in names})
    chosen = [name for name in names if (name.system, name.world) == (system, world)]
    if len(chosen) != 1:
        found = ", ".join(str(name.path) for name in (chosen or names) if name.system == system)
        needed = "one class of GPU" if chosen else f"world {world or 'of its own'}"
        msg = f"needed the baseline of {system} for {needed}, found {found}; choose with --world, or --baselines"
        raise BaselineError(msg)
    return store.read(chosen[0])


def _base(repository: Repository, store: BaselineStore, stored: Baseline, given: str) -> tuple[str, str]:
    """The commit to train beside the working tree, and why that one.

    The commit of the recording tells most: what it gives here differs from the baseline by the environment alone.
    """
    if given:
        return repository.commit(given), f"given as {given}"
    origin = stored.provenance
    if origin.commit is not None and origin.dirty is False and repository.find(origin.commit):
        return repository.commit(origin.commit), "which the baseline was recorded with"
    held = repository.last_change(store.path_for(stored.system, stored.env_class, stored.world).resolve())
    if held is not None:
        return held, "which brought the baseline"
    for remote in _REMOTES:
        left = repository.merge_base(remote)
        if left is not None:
            return left, f"where this branch left {remote}"
    return repository.commit("HEAD"), "the last one"


def _say(text: str) -> None:
    """Progress, for people who wait."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")


def _print(found: Attribution, *, base: str, changed: Sequence[str]) -> None:
    console = make_console()
    causes = " and ".join(str(cause) for cause in found.causes)
    console.print(f"{found.name}: {causes}", style="bold", soft_wrap=True)
    for line in (found.figure, "", f"base commit  {base}", *found.evidence):
        console.print(line, soft_wrap=True)
    if changed:
        console.print("\nchanged since the base commit (candidates, not proof)")
        for line in changed[:_MOST_FILES]:
            console.print(f"  {line}", soft_wrap=True)
        if len(changed) > _MOST_FILES:
            console.print(f"  and {len(changed) - _MOST_FILES} more lines: git diff --stat {base[:12]}")
    if found.advice:
        console.print(f"\nnext  {found.advice}", soft_wrap=True)
