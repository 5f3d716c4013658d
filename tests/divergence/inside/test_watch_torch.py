"""Draws of torch: noted with their line, and untouched by being noted."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fixtures.watched import attributes, events_of, here, watched

QUERY = torch.ones(1, 2, 4)
DRAWS = {
    "torch.rand": lambda: torch.rand(3),
    "torch.randn": lambda: torch.randn(3, 2),
    "torch.randint": lambda: torch.randint(9, (4,)),
    "torch.randperm": lambda: torch.randperm(9),
    "torch.normal": lambda: torch.normal(torch.zeros(3), 1.0),
    "torch.rand_like": lambda: torch.rand_like(torch.ones(3)),
    "torch.randn_like": lambda: torch.randn_like(torch.ones(3)),
    "torch.randint_like": lambda: torch.randint_like(torch.ones(3), 9),
    "torch.bernoulli": lambda: torch.bernoulli(torch.full((9,), 0.5)),
    "torch.multinomial": lambda: torch.multinomial(torch.ones(9), 3),
    "torch.poisson": lambda: torch.poisson(torch.ones(9)),
    "torch.binomial": lambda: torch.binomial(torch.full((4,), 9.0), torch.full((4,), 0.5)),
    "torch.dropout": lambda: torch.dropout(torch.ones(9), 0.5, True),
    "torch.lstm": lambda: LSTM(torch.ones(3, 2))[0],
    "torch.Tensor.random_": lambda: torch.empty(3).random_(),
    "torch.Tensor.uniform_": lambda: torch.empty(3).uniform_(0, 2),
    "torch.Tensor.normal_": lambda: torch.empty(3).normal_(),
    "torch.Tensor.bernoulli_": lambda: torch.empty(9).bernoulli_(0.5),
    "torch.Tensor.exponential_": lambda: torch.empty(3).exponential_(),
    "torch.Tensor.geometric_": lambda: torch.empty(3).geometric_(0.5),
    "torch.Tensor.cauchy_": lambda: torch.empty(3).cauchy_(),
    "torch.Tensor.log_normal_": lambda: torch.empty(3).log_normal_(),
    "torch.Tensor.bernoulli": lambda: torch.full((9,), 0.5).bernoulli(),
    "torch.Tensor.multinomial": lambda: torch.ones(9).multinomial(3),
    "torch.nn.functional.dropout": lambda: nn.Dropout(0.5)(torch.ones(9)),
    "torch.nn.functional.dropout1d": lambda: F.dropout1d(torch.ones(4, 3, 2)),
    "torch.nn.functional.dropout2d": lambda: F.dropout2d(torch.ones(4, 3, 2, 2)),
    "torch.nn.functional.dropout3d": lambda: F.dropout3d(torch.ones(4, 3, 2, 2, 2)),
    "torch.nn.functional.alpha_dropout": lambda: F.alpha_dropout(torch.ones(9), training=True),
    "torch.nn.functional.feature_alpha_dropout": lambda: F.feature_alpha_dropout(torch.ones(4, 3, 2), training=True),
    "torch.nn.functional.rrelu": lambda: F.rrelu(-torch.ones(9), training=True),
    "torch.nn.functional.gumbel_softmax": lambda: F.gumbel_softmax(torch.ones(4)),
    "torch.nn.functional.scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(
        QUERY, QUERY, QUERY, dropout_p=0.5
    ),
    "torch._standard_gamma": lambda: torch.distributions.Gamma(1.0, 1.0).sample(),
}
QUIET = {
    "dropout of nothing": lambda: F.dropout(torch.ones(3), 0.0),
    "evaluation": lambda: nn.Dropout().eval()(torch.ones(3)),
    "attention without dropout": lambda: F.scaled_dot_product_attention(QUERY, QUERY, QUERY),
    "rrelu in evaluation": lambda: F.rrelu(torch.ones(3)),
    "one layer": lambda: nn.LSTM.forward(SINGLE, torch.ones(3, 2)),
    "fake": lambda: torch.rand(3, device="meta"),
}


def _layers(count, dropout):
    with torch.random.fork_rng():
        return nn.LSTM(2, 2, count, dropout=dropout)


LSTM, SINGLE = _layers(2, 0.5), _layers(1, 0.0)


@pytest.fixture(autouse=True)
def _state_is_kept():
    """The tests' own global generator goes on where it was."""
    with torch.random.fork_rng():
        yield


def drawn(call):
    torch.manual_seed(3)
    return call().tolist(), torch.get_rng_state().tolist()


def draws_of(events):
    return [event for event in events if event.kind == "draw"]


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_is_noted_once_and_left_alone(tmp_path, name):
    """The same numbers and the same state afterwards; what it calls inside is part of it."""
    expected, found = drawn(DRAWS[name]), []

    (draw,) = draws_of(events_of(tmp_path, lambda: found.append(drawn(DRAWS[name])), "torch"))

    assert [expected] == found
    assert (name, "torch", 1) == (draw.name, draw.info["generator"], draw.info["count"])
    assert __file__ in draw.site
    assert 32 == len(draw.digest)


@pytest.mark.parametrize("name", QUIET)
def test_what_draws_nothing_is_not_noted(tmp_path, name):
    """A layer in evaluation leaves the generator alone."""
    assert [] == events_of(tmp_path, QUIET[name], "torch")


@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.sampled_from(sorted({**DRAWS, **QUIET})), max_size=6))
def test_any_sequence_is_the_same_stream(tmp_path_factory, names):
    """The watch draws nothing, and passes everything through."""

    def run():
        torch.manual_seed(1)
        return [{**DRAWS, **QUIET}[name]() for name in names], torch.get_rng_state().tolist()

    expected = repr(run())
    with watched(tmp_path_factory.mktemp("tape"), "torch"):
        obtained = repr(run())

    assert expected == obtained


def test_gradients_flow_through(tmp_path):
    """The digest of a mask is not part of the graph."""
    weights = torch.ones(9, requires_grad=True)
    torch.manual_seed(0)
    expected = torch.autograd.grad(F.dropout(weights).sum(), weights)[0].tolist()
    torch.manual_seed(0)

    with watched(tmp_path, "torch"):
        obtained = torch.autograd.grad(F.dropout(weights).sum(), weights)[0].tolist()

    assert expected == obtained


def test_the_line_the_count_and_the_seed_are_told(tmp_path):
    """What a stray draw is found by."""
    sites = []

    def script():
        generator = torch.Generator()
        generator.manual_seed(5)
        generator.seed()
        sites.append(here(below=2))
        for _ in range(3):
            torch.randint(1, 9, (4,), generator=generator)
        torch.manual_seed(8)

    given_, entropy, draw, seeded = [event for event in events_of(tmp_path, script, "torch") if event.name != "cuda"]

    assert {"value": 5, "how": "seeded"} == given_.info
    assert {"value": None, "how": "entropy"} == entropy.info
    assert (sites[0], 3, entropy.name) == (draw.site, draw.info["count"], draw.info["generator"])
    assert entropy.digest == draw.info["state"]
    assert ("torch", {"value": 8, "how": "seeded"}) == (seeded.name, seeded.info)


def test_a_generator_begins_with_a_constant(tmp_path):
    """Unlike all others, one that nobody seeds is the same in every run."""
    events = events_of(tmp_path, lambda: torch.rand(2, generator=torch.Generator()), "torch")

    assert {"value": 67280421310721, "how": "created"} == events[0].info


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made)), lambda made: made])
def test_copies_of_generators_draw_the_same(tmp_path, copied):
    """They are watched by their state."""
    expected, found = torch.rand(2, generator=torch.Generator().manual_seed(4)).tolist(), []

    def script():
        generator = torch.Generator().manual_seed(4)
        found.append(isinstance(copied(generator), torch.Generator))
        found.append(torch.rand(2, generator=copied(generator)).tolist())

    draws_of(events_of(tmp_path, script, "torch"))

    assert [True, expected] == found


def test_states_that_are_put_back_are_told(tmp_path):
    """A fork of the generator ends with a seed by state."""

    def script():
        with torch.random.fork_rng():
            torch.rand(1)

    draw, restored = events_of(tmp_path, script, "torch")

    assert draw.info["state"] == restored.info["value"]


def test_a_loader_s_seeds_belong_to_the_loop(tmp_path):
    """Torch draws them; the line that iterates is what the user knows."""
    sites = []

    def script():
        loader = torch.utils.data.DataLoader(list(range(6)), batch_size=3, shuffle=True)
        sites.append(here(below=1))
        for _ in loader:
            pass

    draws = draws_of(events_of(tmp_path, script, "torch"))

    assert {"torch.Tensor.random_", "torch.randperm"} == {draw.name for draw in draws}
    assert set(sites) == {draw.site for draw in draws}


def test_a_transformed_draw_is_noted_by_its_state(tmp_path):
    """Inside `vmap` there are no numbers to read."""

    def script():
        torch.func.vmap(lambda x: x + torch.rand_like(x), randomness="different")(torch.ones(3, 2))

    (draw,) = draws_of(events_of(tmp_path, script, "torch"))

    assert ("torch.rand_like", 1) == (draw.name, draw.info["count"])


def _noisy(x):
    return F.dropout(x, 0.5, True) + torch.rand(3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_scripted_and_traced_code_works(tmp_path):
    """TorchScript knows functions by identity, before, within and after the watch."""

    def run():
        torch.manual_seed(0)
        scripted = torch.jit.script(_noisy)
        traced = torch.jit.trace(_noisy, torch.ones(3), check_trace=False)
        return [scripted(torch.ones(3)).tolist(), traced(torch.ones(3)).tolist()]

    with watched(tmp_path, "torch"):
        torch.jit.script(nn.Sequential(nn.Dropout(), nn.RReLU()))
        obtained = run()

    assert run() == obtained


def test_symbolic_tracing_works(tmp_path):
    """The graph calls what the script called."""
    with watched(tmp_path, "torch"):
        code = torch.fx.symbolic_trace(lambda x: F.dropout(x) + torch.rand_like(x)).code

    assert "torch.nn.functional.dropout(x" in code
    assert "torch.rand_like(x)" in code


def test_subclasses_of_tensors_see_the_functions_that_scripts_see(tmp_path):
    """A handler is asked about dropout as it is known by its name."""
    seen = []

    class Own(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    with watched(tmp_path, "torch"):
        F.dropout(torch.ones(3).as_subclass(Own))
        torch.ones(3).as_subclass(Own).uniform_()
        expected = {F.dropout, torch.Tensor.uniform_}

    assert expected <= set(seen)


def test_a_default_device_still_holds(tmp_path):
    """It is applied to functions that torch knows by identity."""
    with watched(tmp_path, "torch"), torch.device("meta"):
        made = torch.rand(2)

    assert "meta" == made.device.type


def test_functions_can_be_pickled(tmp_path):
    """Workers get them by reference."""
    with watched(tmp_path, "torch"):
        functions = [torch.rand, F.dropout, torch.Tensor.uniform_, torch.manual_seed]

        assert functions == pickle.loads(pickle.dumps(functions))


@pytest.mark.slow
def test_compiled_code_works(tmp_path):
    """The compiler sees the originals, in one graph."""

    def run():
        torch._dynamo.reset()
        torch.manual_seed(0)
        return torch.compile(_noisy, backend="aot_eager", fullgraph=True)(torch.ones(3)).tolist()

    expected = run()
    with watched(tmp_path, "torch"):
        obtained = run()

    assert expected == obtained == run()


def test_a_pinned_library_starts_from_zero(tmp_path):
    """The global generators."""
    found = []

    events_of(tmp_path, lambda: found.append(torch.rand(2).tolist()), "torch", pins=["seed:torch"])

    assert [torch.rand(2, generator=torch.Generator().manual_seed(0)).tolist()] == found


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: torch.Generator().manual_seed(seed),
        lambda seed: torch.manual_seed(seed),
        lambda _: [torch.seed(), torch.default_generator][1],
        lambda _: [generator := torch.Generator(), generator.seed()][0],
    ],
)
def test_a_pinned_line_gets_counted_seeds(tmp_path, make):
    """In place of entropy, and of a seed that may come from a clock."""
    expected = [torch.rand(2, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (0, 1)]
    site, found = f"{here().rpartition('.py:')[0]}.py:{make.__code__.co_firstlineno}:<lambda>", []

    def script():
        for _ in range(2):
            found.append(torch.rand(2, generator=make(99)).tolist())

    events_of(tmp_path, script, "torch", pins=[f"site:{site}"])

    assert expected == found


def test_everything_is_put_back(tmp_path):
    """Afterwards the modules hold the very objects that they held before."""
    owners = [torch, F, torch.Tensor, torch.random, torch.cuda, torch.cuda.random, torch._C]
    before = attributes(*owners)

    with watched(tmp_path, "torch"):
        kept = torch.Generator().manual_seed(1)
        during = attributes(*owners)
    after = attributes(*owners)

    assert before.keys() == after.keys()
    assert [] == [name for name in before if before[name] is not after[name]]
    assert len([name for name in before if before[name] is not during.get(name)]) > 40
    assert torch.rand(1, generator=kept) == torch.rand(1, generator=torch.Generator().manual_seed(1))
