"""The tree of ids, and that every way of decoding under it gives the same scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gram_c import start
from rectest.systems.gram_c.beam import beam_scores
from rectest.systems.gram_c.ids import ItemIds
from rectest.systems.gram_c.scoring import catalogue, exact_scores, overlap
from rectest.systems.gram_c.text import END, START
from rectest.systems.gram_c.trie import Trie

IDS = np.array([[0, 0, 0], [2, 1, 0], [0, 0, 1], [2, 1, 1], [0, 0, 0]])
"""Four items: two under the prefix (2, 1), two alone under 0, 0."""


@pytest.fixture(scope="module")
def trained():
    return start(steps=60).steps(60)


def memory_of(run, *, users: int):
    inputs = {name: value[:users] for name, value in run.system.eval_set(run.data, "test").inputs.items()}
    run.model.eval()
    with torch.no_grad():
        return run.system.memory(run.model, inputs)


def test_the_tree_by_hand():
    trie = Trie.of(ItemIds(codes=IDS, num_codes=3))

    assert trie.codes.tolist() == [[0, 0, 0], [0, 0, 1], [2, 1, 0], [2, 1, 1]]
    assert trie.parent.tolist() == [-1, 0, 0, 1, 2, 3, 3, 4, 4]
    assert trie.depth.tolist() == [0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert trie.code.tolist() == [-1, 0, 2, 0, 1, 0, 1, 0, 1]
    assert trie.child[0].tolist() == [1, -1, 2]
    assert (trie.num_levels, trie.first_leaf) == (3, 5)
    assert trie.path().tolist() == [[0, 1, 3], [0, 1, 3], [0, 2, 4], [0, 2, 4]]


def test_nodes_with_a_choice_and_those_above_them():
    trie = Trie.of(ItemIds(codes=IDS, num_codes=3))
    nodes = trie.deciding()

    assert nodes.tolist() == [0, 1, 2, 3, 4], "1 and 2 offer no choice, but 3 and 4 stand below them"
    assert trie.ancestors(nodes).tolist() == [
        [True, False, False, False, False],
        [True, True, False, False, False],
        [True, False, True, False, False],
        [True, True, False, True, False],
        [True, False, True, False, True],
    ]


def test_shared_ids_are_one_leaf():
    trie = Trie.of(ItemIds(codes=np.array([[0, 0], [1, 0], [1, 0]]), num_codes=2))

    assert trie.codes.tolist() == [[1, 0]]
    assert trie.deciding().tolist() == [0]


@settings(max_examples=50, deadline=None)
@given(codes=st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=20))
def test_every_prefix_is_one_node(codes):
    trie = Trie.of(ItemIds(codes=np.array([(0, 0, 0), *codes]), num_codes=3))
    prefixes = {code[:depth] for code in codes for depth in range(4)}

    assert len(trie.parent) == len(prefixes)
    assert {tuple(row) for row in trie.codes.tolist()} == set(codes)
    for leaf, row in enumerate(trie.codes.tolist()):
        node = 0
        for place, code in zip(trie.path()[leaf], row, strict=True):
            assert place == node
            node = int(trie.child[node, code])

        assert node == trie.first_leaf + leaf


def test_probabilities_of_all_items_sum_to_one(trained):
    scores = trained.scores()

    np.testing.assert_allclose(np.exp(scores[:, 1:].astype(np.float64)).sum(axis=1), 1.0, rtol=1e-5)


def test_exact_scores_are_teacher_forced_ones(trained):
    """One item after another, its own tokens as decoder input, with the codes that the tree allows."""
    run, memory = trained, memory_of(trained, users=3)
    trie, words = run.data.trie, run.data.vocabulary
    expected = torch.zeros(3, len(trie.codes))
    for leaf, codes in enumerate(trie.codes.tolist()):
        tokens = torch.tensor([[START, *(words.code(*pair) for pair in enumerate(codes))]]).expand(3, -1)
        depth = torch.arange(tokens.shape[1])
        with torch.no_grad():
            logits = run.model.write(tokens, depth, run.model.causal_mask(depth), memory)
        node = 0
        for level, code in enumerate(codes):
            allowed = np.flatnonzero(trie.child[node] >= 0)
            columns = torch.tensor([words.code(level, other) - END for other in allowed.tolist()])
            logs = logits[:, level, columns].log_softmax(-1)
            expected[:, leaf] += logs[:, allowed.tolist().index(code)]
            node = int(trie.child[node, code])
    with torch.no_grad():
        obtained = exact_scores(run.model, run.model.tree, memory)

    torch.testing.assert_close(expected, obtained, rtol=1e-4, atol=1e-5)


def test_a_beam_as_wide_as_the_catalogue_is_exact(trained):
    memory = memory_of(trained, users=20)
    with torch.no_grad():
        expected = exact_scores(trained.model, trained.model.tree, memory)
    obtained = beam_scores(trained.model, trained.model.tree, memory, beam_size=40)

    torch.testing.assert_close(expected, obtained, rtol=1e-4, atol=1e-5)
    assert torch.equal(expected.argsort(1, descending=True)[:, :20], obtained.argsort(1, descending=True)[:, :20])


@pytest.mark.parametrize("beam_size", [1, 3, 10])
def test_a_smaller_beam_finds_fewer_items_with_the_same_scores(trained, beam_size):
    memory = memory_of(trained, users=20)
    with torch.no_grad():
        expected = exact_scores(trained.model, trained.model.tree, memory)
    obtained = beam_scores(trained.model, trained.model.tree, memory, beam_size=beam_size)
    found = obtained > -torch.inf

    assert (found.sum(1) == beam_size).all(), "distinct ids, as many as the beam is wide"
    torch.testing.assert_close(expected[found], obtained[found], rtol=1e-4, atol=1e-5)
    again = beam_scores(trained.model, trained.model.tree, memory, beam_size=beam_size)
    assert torch.equal(obtained, again)


def test_beam_decoding_ranks_what_it_finds_first(trained):
    system = start(decoding="beam", beam_size=10).system
    eval_set = system.eval_set(trained.data, "test")
    trained.model.eval()
    with torch.no_grad():
        scores = system.score(trained.model, eval_set, slice(0, 30))
    best = scores[:, 1:].argsort(1, descending=True)

    assert torch.isfinite(scores).all()
    assert all(len(set(row)) == 40 for row in scores[:, 1:].tolist()), "nothing is tied"
    lowest, rest = scores[:, 1:].gather(1, best[:, 9:11]).unbind(1)
    assert (lowest - rest >= 1).all()
    exact = torch.from_numpy(trained.scores(users=30))
    assert overlap(exact, scores, k=1) == 1.0


def test_scores_of_the_catalogue_by_hand():
    found = torch.tensor([[-1.0, -torch.inf, -3.0]])
    obtained = catalogue(found, torch.tensor([3, 1, 0]), 4)
    low = -1.0 - 1.0

    torch.testing.assert_close(obtained, torch.tensor([[low, low - 1 / 5, low - 2 / 5, -1.0, low - 4 / 5]]))
    assert (catalogue(found, torch.tensor([0, 0, 0]), 4).diff() < 0).all(), "nothing found is no NaN"


def test_overlap_by_hand():
    first = torch.tensor([[9.0, 4.0, 3.0, 2.0, 1.0]])
    second = torch.tensor([[0.0, 4.0, 1.0, 2.0, 3.0]])

    assert overlap(first, second, k=2) == 0.5
    assert overlap(first, second, k=10) == 1.0


def test_a_beam_of_nothing_is_refused(trained):
    with pytest.raises(ValueError, match="beam_size must be at least 1, got 0"):
        beam_scores(trained.model, trained.model.tree, memory_of(trained, users=1), beam_size=0)
