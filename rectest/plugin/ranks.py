"""``rec_ranks``: run any function on several ranks in a test, and hold a user's own training against one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from rectest.plugin.collect import attach, attach_note
from rectest.plugin.gate import require_green
from rectest.plugin.gpus import num_gpus

if TYPE_CHECKING:
    from rectest.checks.result import CheckResult
    from rectest.environment import Environment

__all__ = ["Ranks", "rec_ranks"]

_DEADLINE = 120.0
"""Seconds; ranks that wait for each other must end the test, not the session."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Starts ranks for one test item."""

    item: pytest.Item
    device: str

    def __call__(
        self,
        function: Callable[..., Any],
        *args: Any,
        world_size: int = 2,
        device: str | None = None,
        deadline: float = _DEADLINE,
        backend: str = "auto",
    ) -> list[Any]:
        """What ``function(*args)`` returned on each rank, by rank; the default process group is there.

        The test fails when a rank raises, dies or does not come to its end in time, and the message names it.

        Args:
            function: at the top level of a module that other processes can import; so are functions among `args`.
            device: ``cuda`` in tests marked ``gpu``, else ``--rectest-device``.
            deadline: seconds after which all ranks are killed.
        """
        __tracebackhide__ = True
        from rectest.parity import launch_with
        from rectest.training.group import run_on_ranks
        from rectest.training.modules import call, modules_of

        place = self.device if device is None else device
        if place.startswith("cuda") and not num_gpus():
            self._fail(f"asked for device {place!r}, found no GPU")

        def ran() -> list[Any]:
            modules = modules_of(function=function, arguments=args)
            return run_on_ranks(
                call,
                modules,
                function,
                *args,
                world_size=world_size,
                subject=getattr(function, "__qualname__", "a function"),
                device=place,
                backend=backend,
                how=launch_with(deadline),
            )

        found: list[Any] = self._named(ran)
        return found

    def assert_gradient_parity(
        self,
        build: Any,
        loss: Any = None,
        batch: Any = None,
        *,
        world_sizes: Sequence[int] = (1, 2, 4),
        deadline: float = _DEADLINE,
        **fields: Any,
    ) -> list[CheckResult]:
        """`rectest.assert_gradient_parity`, with its results in the rectest section and the JSON report."""
        __tracebackhide__ = True
        from rectest.parity import judged_case, launch_with, make_case
        from rectest.training.case import ParityCase

        def measured() -> tuple[list[CheckResult], Environment | None]:
            given = fields if isinstance(build, ParityCase) else {"device": self.device, **fields}
            return judged_case(make_case(build, loss, batch, **given), world_sizes, how=launch_with(deadline))

        results, environment = self._named(measured)
        if environment is not None:
            attach_note(self.item, "environment", environment.to_dict())
        require_green(self.item, results)
        found: list[CheckResult] = results
        return found

    def _named(self, work: Callable[[], Any]) -> Any:
        """Turn a mistake that can be named into one message, with what the rank that is to blame last said."""
        __tracebackhide__ = True
        from rectest.errors import ChildFailed, RectestError

        try:
            return work()
        except ChildFailed as e:
            problem = f"{e}\n\n--- what the rank last said ---\n{e.log}" if e.log else str(e)
        except (RectestError, ValueError, TypeError) as e:
            problem = str(e)
        return self._fail(problem)

    def _fail(self, problem: str) -> None:
        __tracebackhide__ = True
        from rectest.checks.result import not_measured

        attach(self.item, not_measured("ranks", self.item.name.replace("/", "."), problem.partition("\n")[0]))
        pytest.fail(f"NOT MEASURED: {problem}", pytrace=False)


@pytest.fixture
def rec_ranks(request: pytest.FixtureRequest, rec_device: str) -> Ranks:
    """Run a function on several ranks, ``rec_ranks(train_a_step, batch, world_size=2)``, and compare gradients.

    ``rec_ranks.assert_gradient_parity(build, loss, batch)`` fails unless all ranks have the gradient of one process.
    """
    return Ranks(item=request.node, device=rec_device)
