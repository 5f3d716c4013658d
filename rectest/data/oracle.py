"""`Oracle`: Bayes-optimal next-item probabilities of a synthetic world, by forward filtering of the hidden taste.

What is exact: the posterior over tastes given a whole history, and the predictive law of the next item, in every
world, whether or not the kinds of the events (view, buy, ...) are known. For more than one step the expected counts
are exact in worlds with revisits, because all of the law's parts are then linear in the expected state. Without
revisits the steps after the first are a mean-field approximation: whether an item was meanwhile seen is replaced by
its probability; the ranking is what remains trustworthy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rectest.data.law import PlantedLaw
from rectest.errors import DataError

__all__ = ["Oracle"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Oracle:
    """Knows the law and nothing of the users: all it uses of a user is the history it is given."""

    law: PlantedLaw

    @property
    def num_items(self) -> int:
        return self.law.num_items

    def scores(
        self,
        histories: Sequence[NDArray[np.integer]],
        horizon: int = 1,
        *,
        behaviours: Sequence[NDArray[np.integer]] | None = None,
        next_behaviour: NDArray[np.integer] | None = None,
    ) -> _Floats:
        """Expected number of times each item occurs among the next `horizon` items, float64[B, V+1]; rows sum to it.

        A history is everything that the user did so far, oldest first, without padding; it may be empty. Scores of a
        truncated history are those of a user who did no more than that. Where kinds of events say nothing of the
        taste, `behaviours` and `next_behaviour` change nothing.

        Args:
            behaviours: the kinds 1..n of the events of each history; without them they are unknown.
            next_behaviour: [B] the kind of the next event, for the law given that kind; needs a horizon of 1.

        Raises:
            DataError: the law cannot produce a history (a repeat where nothing repeats), or it leaves fewer than
                `horizon` new items.
            ValueError: an id or a kind outside its range, or kinds that do not fit the histories.
        """
        if horizon < 1:
            msg = f"horizon must be at least 1, got {horizon}"
            raise ValueError(msg)
        if next_behaviour is not None and horizon != 1:
            msg = f"the kind of the next event says nothing of a horizon of {horizon} events, needed 1"
            raise ValueError(msg)
        state = self._state(histories, horizon, behaviours)
        step = _first_step(self.law, state)
        if next_behaviour is not None and self.law.kind_shares is not None:
            kind = _checked_kinds(np.asarray(next_behaviour), len(step), self.law.kind_shares)
            return _given_kind(self.law, self.law.kind_shares, state, step, kind)
        total = step.copy()
        for ahead in range(1, horizon):
            step = _next_step(self.law, state, step, total, ahead)
            total += step
        return total

    def posterior(
        self,
        histories: Sequence[NDArray[np.integer]],
        *,
        behaviours: Sequence[NDArray[np.integer]] | None = None,
    ) -> _Floats:
        """P(taste | history), float64[B, K]; `behaviours` as in `scores`."""
        return self._state(histories, 0, behaviours).taste

    def _state(
        self,
        histories: Sequence[NDArray[np.integer]],
        horizon: int,
        behaviours: Sequence[NDArray[np.integer]] | None,
    ) -> _State:
        padded, lengths = self._padded(histories, horizon)
        kinds = None
        if behaviours is not None:
            kinds = _padded_kinds(self.law, behaviours, lengths)
        return _filtered(self.law, padded, lengths, kinds)

    def _padded(self, histories: Sequence[NDArray[np.integer]], horizon: int) -> tuple[_Ints, _Ints]:
        """Right-padded histories [B, L] and their lengths [B], validated."""
        if len(histories) == 0:
            msg = "the oracle needs at least one history, got none"
            raise ValueError(msg)
        lengths = np.array([len(history) for history in histories], dtype=np.int64)
        padded = np.zeros((len(histories), int(lengths.max())), dtype=np.int64)
        for row, history in enumerate(histories):
            padded[row, : len(history)] = history
        real = np.arange(padded.shape[1])[None, :] < lengths[:, None]
        if ((padded[real] < 1) | (padded[real] > self.num_items)).any():
            msg = f"a history holds an item outside 1..{self.num_items} (padding must be cut off)"
            raise ValueError(msg)
        if not self.law.revisits:
            self._check_possible(padded, lengths, horizon)
        return padded, lengths

    def _check_possible(self, padded: _Ints, lengths: _Ints, horizon: int) -> None:
        ordered = np.sort(padded, axis=1)
        again = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)).sum(axis=1)
        if self.law.repeat_probability == 0.0 and again.any():
            msg = f"history {int(np.argmax(again > 0))} repeats an item, which this world never does"
            raise DataError(msg)
        left = self.num_items - (lengths - again) - horizon
        if (left < 0).any():
            msg = f"history {int(np.argmax(left < 0))} leaves fewer than {horizon} items that are new to the user"
            raise DataError(msg)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _State:
    """What a batch of histories comes down to."""

    taste: _Floats
    """Posterior over tastes, [B, K]."""
    last: _Ints
    """Last item, [B]; 0 where the history is empty."""
    counts: _Floats
    """Occurrences of each item in the history, [B, V+1]."""
    lengths: _Ints


def _base_weights(law: PlantedLaw, last: _Ints) -> tuple[_Floats, _Floats, _Floats]:
    """The weights a, b, c of each row, [B] each: a first item has no successor part."""
    first_b, first_c = law.weights_first
    started = last > 0
    return (
        np.where(started, law.successor_weight, 0.0),
        np.where(started, law.taste_weight, first_b),
        np.where(started, law.global_weight, first_c),
    )


def _padded_kinds(law: PlantedLaw, behaviours: Sequence[NDArray[np.integer]], lengths: _Ints) -> _Ints | None:
    """Right-padded kinds [B, L], validated; None where they say nothing of the taste."""
    found = [len(own) for own in behaviours]
    if found != lengths.tolist():
        msg = f"kinds of {sum(found)} events in {len(found)} histories, needed as many kinds as items for each history"
        raise ValueError(msg)
    if law.kind_shares is None:
        return None
    padded = np.zeros((len(found), max(found)), dtype=np.int64)
    for row, own in enumerate(behaviours):
        padded[row, : len(own)] = _checked_kinds(np.asarray(own), len(own), law.kind_shares)
    return padded


def _checked_kinds(kinds: NDArray[np.integer], count: int, kind_shares: _Floats) -> _Ints:
    num_kinds = kind_shares.shape[1]
    if kinds.shape != (count,) or (count and (int(kinds.min()) < 1 or int(kinds.max()) > num_kinds)):
        msg = f"kinds of events must be {count} integers in 1..{num_kinds}, got {kinds} of shape {kinds.shape}"
        raise ValueError(msg)
    return kinds.astype(np.int64)


def _kind_likelihood(law: PlantedLaw, shares: _Floats, item: _Ints, kind: _Ints) -> _Floats:
    """P(kind | item, taste), [B, K]; 1 where there is no event (kind 0)."""
    own = law.cluster[item][:, None] == np.arange(1, law.num_tastes + 1)[None, :]
    column = np.maximum(kind, 1) - 1
    likelihood = np.where(own, shares[1][column][:, None], shares[0][column][:, None])
    return np.where(kind[:, None] > 0, likelihood, 1.0)


def _filtered(law: PlantedLaw, padded: _Ints, lengths: _Ints, kinds: _Ints | None = None) -> _State:
    """Run the forward filter over all histories at once, position by position; `kinds` are padded as the items are."""
    batch = len(padded)
    rows = np.arange(batch)
    log_taste = np.tile(np.log(law.prior), (batch, 1))
    counts = np.zeros((batch, law.num_items + 1))
    seen_mass = _SeenMass.empty(batch, law)
    last = np.zeros(batch, dtype=np.int64)
    for position in range(padded.shape[1]):
        active = lengths > position
        item = padded[:, position]
        new = active & (counts[rows, item] == 0)
        informative = active if law.revisits else new
        likelihood = _likelihood(law, last, item, counts, seen_mass, position)
        log_taste[informative] += np.log(likelihood[informative])
        if kinds is not None and law.kind_shares is not None:
            log_taste += np.log(_kind_likelihood(law, law.kind_shares, item, kinds[:, position]))
        seen_mass.add(law, np.where(new, item, 0))
        counts[rows[active], item[active]] += 1.0
        last = np.where(active, item, last)
    log_taste -= log_taste.max(axis=1, keepdims=True)
    taste = np.exp(log_taste)
    return _State(taste=taste / taste.sum(axis=1, keepdims=True), last=last, counts=counts, lengths=lengths)


def _likelihood(
    law: PlantedLaw, last: _Ints, item: _Ints, counts: _Floats, seen_mass: _SeenMass, position: int
) -> _Floats:
    """P(item | last, history, taste) up to a factor that is the same for all tastes, [B, K]."""
    a, b, c = _base_weights(law, last)
    follows = ((law.successors[last] == item[:, None]) * law.successor_law).sum(axis=1)
    shared = a * follows + c * law.global_law[item]
    likelihood: _Floats = shared[:, None] + b[:, None] * law.cluster_law[:, item].T
    if not law.revisits:
        likelihood /= 1.0 - seen_mass.under(law, last, counts)
    elif law.repeat_probability > 0.0 and position > 0:
        again = counts[np.arange(len(item)), item] / position
        likelihood *= 1.0 - law.repeat_probability
        likelihood += law.repeat_probability * again[:, None]
    return likelihood


@dataclass(kw_only=True, slots=True, eq=False)
class _SeenMass:
    """Running mass of the seen items under C_z and G; the successor part is looked up when asked."""

    cluster: _Floats
    everywhere: _Floats

    @classmethod
    def empty(cls, batch: int, law: PlantedLaw) -> _SeenMass:
        return cls(cluster=np.zeros((batch, law.num_tastes)), everywhere=np.zeros(batch))

    def add(self, law: PlantedLaw, item: _Ints) -> None:
        """Count one more distinct item per row; 0 adds nothing."""
        self.cluster += law.cluster_law[:, item].T
        self.everywhere += law.global_law[item]

    def under(self, law: PlantedLaw, last: _Ints, counts: _Floats) -> _Floats:
        """q_z(seen | last), [B, K]."""
        a, b, c = _base_weights(law, last)
        reached = np.take_along_axis(counts, law.successors[last], axis=1) > 0
        follows = (reached * law.successor_law).sum(axis=1)
        mass: _Floats = (a * follows + c * self.everywhere)[:, None] + b[:, None] * self.cluster
        return mass


def _novel_taste(law: PlantedLaw, state: _State) -> _Floats:
    """The posterior over tastes; without revisits each is divided by what the seen items leave of its law, [B, K]."""
    if law.revisits:
        return state.taste
    seen = (state.counts > 0).astype(np.float64)
    mass = _SeenMass(cluster=seen @ law.cluster_law.T, everywhere=seen @ law.global_law)
    divided: _Floats = state.taste / (1.0 - mass.under(law, state.last, state.counts))
    return divided


def _first_step(law: PlantedLaw, state: _State) -> _Floats:
    """The exact predictive law of the next item, [B, V+1]."""
    taste = _novel_taste(law, state)
    a, b, c = _base_weights(law, state.last)
    shared = taste.sum(axis=1)
    novel = (b[:, None] * taste) @ law.cluster_law + (c * shared)[:, None] * law.global_law
    np.add.at(
        novel,
        (np.arange(len(novel))[:, None], law.successors[state.last]),
        (a * shared)[:, None] * law.successor_law,
    )
    if not law.revisits:
        novel *= state.counts == 0
    return _with_repeats(law, novel, state.counts, state.lengths)


def _own_step(law: PlantedLaw, state: _State) -> _Floats:
    """P(next item, and the user's taste is the item's own cluster), [B, V+1]."""
    taste = _novel_taste(law, state)
    a, b, c = _base_weights(law, state.last)
    shared = c[:, None] * law.global_law
    rows = np.arange(len(shared))[:, None]
    np.add.at(shared, (rows, law.successors[state.last]), a[:, None] * law.successor_law)
    of_cluster = law.cluster - 1
    novel = (b[:, None] * taste) @ law.cluster_law + taste[:, of_cluster] * shared
    if not law.revisits:
        novel *= state.counts == 0
    return _with_repeats(law, novel, state.counts * state.taste[:, of_cluster], state.lengths)


def _given_kind(law: PlantedLaw, kind_shares: _Floats, state: _State, step: _Floats, kind: _Ints) -> _Floats:
    """The predictive law `step` given the kind of the next event, by Bayes' rule, [B, V+1]."""
    elsewhere, own = (shares[kind - 1][:, None] for shares in kind_shares)
    joint = elsewhere * step + (own - elsewhere) * _own_step(law, state)
    given: _Floats = joint / joint.sum(axis=1, keepdims=True)
    return given


def _with_repeats(law: PlantedLaw, novel: _Floats, counts: _Floats, lengths: _Ints) -> _Floats:
    repeat = np.where(lengths > 0, law.repeat_probability, 0.0)[:, None]
    step = (1.0 - repeat) * novel + repeat * counts / np.maximum(lengths, 1)[:, None]
    step[:, 0] = 0.0
    return step


def _next_step(law: PlantedLaw, state: _State, step: _Floats, total: _Floats, ahead: int) -> _Floats:
    """The expected law `ahead` + 1 items from now, given the expected law of the item before it."""
    novel = law.taste_weight * (state.taste @ law.cluster_law) + law.global_weight * law.global_law
    for column, weight in enumerate(law.successor_law):
        novel[:, law.successors[1:, column]] += law.successor_weight * weight * step[:, 1:]
    if not law.revisits:
        novel *= np.clip(1.0 - np.minimum(state.counts, 1.0) - total, 0.0, None)
        novel /= novel.sum(axis=1, keepdims=True)
    return _with_repeats(law, novel, state.counts + total, state.lengths + ahead)
