"""Models of every kind under a recording: failing, compiled, checkpointed, lazy, in threads, called part by part."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from fixtures.recorded import recorded, tape_of
from fixtures.small_training import Tower
from rectest.divergence.inside import torch_hooks
from rectest.divergence.tapes import load_run


def test_an_exception_in_forward_leaves_the_depth_right(tmp_path: Path) -> None:
    class Failing(nn.Module):
        error: type[BaseException] | None = ValueError

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            states = self.inner(states)
            if self.error is not None:
                raise self.error
            return states

    def script() -> None:
        model = Failing()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(ValueError):
            nn.Sequential(model)(torch.ones(2))
        model.error = KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            model(torch.ones(2))
        optimizer.step()
        model.error = None
        model(torch.ones(2)).sum().backward()

    names = [event.name for event in tape_of(tmp_path, script) if event.kind == "forward"]

    assert "Failing" == names[-1]
    assert ["Failing.inner.0", "Failing.inner.1", "Failing.inner", "Failing"] == names[-4:]


def test_evaluation_is_told_from_training(tmp_path: Path) -> None:
    def script() -> None:
        model, batch = nn.Linear(2, 1), torch.ones(3, 2)
        with torch.no_grad():
            model(batch)
        model(batch).sum().backward()
        with torch.inference_mode():
            model(batch)
        model.eval()
        model(batch)

    phases = [event.phase for event in tape_of(tmp_path, script) if event.kind == "forward"]

    assert ["eval", "train", "eval", "eval"] == phases


def test_a_long_evaluation_is_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_hooks, "_MAX_WAITING", 10)
    model = nn.Linear(2, 1)
    with recorded(tmp_path) as session, torch.no_grad():
        for _ in range(20):
            model(torch.ones(2))

        assert session.writer.num_waiting < 20
    assert 20 == sum(event.kind == "forward" for event in load_run(tmp_path).tapes["main"].events)


def test_only_the_thread_that_trains_is_recorded(tmp_path: Path) -> None:
    def script() -> None:
        model = nn.Linear(2, 1)
        model(torch.ones(2))
        other = threading.Thread(target=lambda: nn.Bilinear(2, 2, 1)(torch.ones(2), torch.ones(2)))
        other.start()
        other.join()
        model(torch.ones(2))

    names = [event.name for event in tape_of(tmp_path, script) if event.kind == "forward"]

    assert ["Linear", "Linear"] == names


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_a_checkpoint_computes_again_is_passed_over(tmp_path: Path, *, reentrant: bool) -> None:
    def script() -> None:
        model, states = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(3, 2, requires_grad=True)
        checkpoint(model, states, use_reentrant=reentrant).sum().backward()

    events = tape_of(tmp_path, script)

    assert ["Sequential.0", "Sequential.1", "Sequential"] == [e.name for e in events if e.kind == "forward"]
    assert 1 == sum(event.kind == "loss" for event in events)


def test_parts_called_from_a_method_belong_to_the_model(tmp_path: Path) -> None:
    class Recommender(Tower):
        def calculate_loss(self, history: torch.Tensor) -> torch.Tensor:
            return self.forward(history).sum()

    def training_step(model: Recommender) -> torch.Tensor:
        return model.calculate_loss(torch.ones(2, 5, dtype=torch.long))

    def script() -> None:
        model = Recommender()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        training_step(model).backward()
        optimizer.step()

    events = tape_of(tmp_path, script)

    assert ["Recommender.items", "Recommender.block.0"] == [e.name for e in events if e.kind == "forward"][:2]
    assert ["Recommender"] == [event.name for event in events if event.kind == "init"]
    assert "Recommender.out.bias" in next(event.tensors for event in events if event.kind == "gradient")


def test_outputs_of_every_kind(tmp_path: Path) -> None:
    @dataclass
    class Output:
        logits: torch.Tensor
        extra: object

    class Model(nn.Module):
        def forward(self, value: torch.Tensor, kind: str) -> Any:
            logits = value * self.scale
            return {
                "dict": {"logits": logits, "n": 3},
                "dataclass": Output(logits, object()),
                "nested": [logits, (logits, None)],
                "none": None,
            }[kind]

    def script(scale: float) -> None:
        model = Model()
        model.scale = scale
        for kind in ("dict", "dataclass", "nested", "none"):
            model(torch.ones(2), kind=kind)

    one, same, other = (
        [e.digest for e in tape_of(tmp_path / name, lambda scale=scale: script(scale)) if e.kind == "forward"]
        for name, scale in (("a", 1.0), ("b", 1.0), ("c", 2.0))
    )

    assert one == same
    assert [True, True, True, False] == [a != b for a, b in zip(one, other, strict=True)]


def test_scripted_traced_compiled_and_transformed_models(tmp_path: Path) -> None:
    def script() -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        torch.func.vmap(torch.func.grad(lambda x: model(x).sum()))(torch.ones(3, 2))
        torch.fx.symbolic_trace(model)(torch.ones(2))
        torch.func.functional_call(model, dict(model.named_parameters()), (torch.ones(2),))
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        compiled(torch.ones(2)).sum().backward()
        with torch.device("meta"):
            nn.Linear(2, 2)(torch.ones(2))

    events = tape_of(tmp_path, script)

    assert "Sequential" in {event.name for event in events if event.digest}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_jit_models(tmp_path: Path) -> None:
    def script() -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        torch.jit.script(model)(torch.ones(2)).sum().backward()
        torch.jit.trace(model, torch.ones(2))(torch.ones(2))

    assert [event for event in tape_of(tmp_path, script) if event.kind == "forward"]


def test_a_lazy_model_is_noted_again_when_it_has_parameters(tmp_path: Path) -> None:
    def script() -> None:
        model = nn.LazyLinear(2)
        model(torch.ones(3))
        model(torch.ones(3))

    tables = [event.tensors for event in tape_of(tmp_path, script) if event.kind == "init"]

    assert 2 == len(tables)
    assert tables[0] != tables[1]


def test_batches_of_objects_and_loaders_by_number(tmp_path: Path) -> None:
    class Interaction:
        def __init__(self, rows: list[int]) -> None:
            self.fields = {"user": torch.tensor(rows)}
            self.name = "train"

    def script() -> None:
        first, second = (DataLoader(list(range(4)), batch_size=2, collate_fn=Interaction) for _ in range(2))
        for _ in range(2):
            list(second)
            list(first)

    names = [event.name for event in tape_of(tmp_path, script)]

    assert [*["loader0.fields.user", "loader0.name"] * 2, *["loader1.fields.user", "loader1.name"] * 2] * 2 == names


def test_a_failure_of_the_recording_is_noted_once_and_not_raised(tmp_path: Path) -> None:
    class Odd(nn.Module):
        training = property(lambda _: 1 / 0, lambda *_: None)

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return value + 1

    with recorded(tmp_path) as session:
        model = Odd()
        outputs = [model(torch.ones(1)) for _ in range(3)]
        failures = [event[6] for event in session.writer._events if event and event[3] == "capture"]

    assert [2.0] * 3 == [output.item() for output in outputs]
    assert [{"capture_error": "a model's call: ZeroDivisionError: division by zero"}] == failures


def test_gradients_asked_for_directly_are_losses(tmp_path: Path) -> None:
    def script() -> None:
        weight = torch.ones(2, requires_grad=True)
        torch.autograd.grad((weight * 3).sum(), [weight])
        (weight * 2).backward(torch.ones(2))

    values = [event.info["value"] for event in tape_of(tmp_path, script) if event.kind == "loss"]

    assert [6.0, None] == values
