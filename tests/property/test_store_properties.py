"""The store against a brute-force model (a plain list of episodes), and the distributions of what is drawn."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.store.episodes import EpisodeStore
from apportion.store.sample import subsets, transitions
from apportion.types import Episode, Spec

SPEC = Spec(obs_shape=(1,), obs_dtype="float32", act_kind="box", act_dim=1)
GAMMA = 0.9


def episode(number, length, terminated):
    """Every entry is different from all others, so that a mix-up cannot hide."""
    base = 100.0 * number
    return Episode(
        obs=(base + np.arange(length + 1, dtype=np.float32))[:, None],
        act=(base + 0.25 + np.arange(length, dtype=np.float32))[:, None],
        reward=(base + 0.5 + np.arange(length, dtype=np.float32)),
        terminated=terminated,
        env=number % 3,
        seed=number,
    )


histories = st.tuples(
    st.integers(11, 60),  # capacity
    st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=1, max_size=40),
)


def filled(capacity, lengths):
    """The store, and the model: the list of (number, episode) that are live."""
    store, model = EpisodeStore(capacity, SPEC), []
    for number, (length, terminated) in enumerate(lengths):
        new = episode(number, length, terminated)
        assert store.add(new) == number
        model.append((number, new))
        while sum(e.length + 1 for _, e in model) > capacity:
            model.pop(0)
    return store, model


@settings(max_examples=150, deadline=None)
@given(histories)
def test_the_live_episodes_are_those_of_the_model(history):
    store, model = filled(*history)
    assert list(range(store.first_id, store.next_id)) == [number for number, _ in model]
    assert store.n_transitions == sum(e.length for _, e in model)
    assert store.lengths.tolist() == [e.length for _, e in model]
    assert store.returns.tolist() == [e.episode_return for _, e in model]
    for number, e in model:
        got = store.episode(number)
        assert (got.terminated, got.env, got.seed) == (e.terminated, e.env, e.seed)
        for name in ("obs", "act", "reward"):
            np.testing.assert_array_equal(getattr(got, name), getattr(e, name))


@settings(max_examples=100, deadline=None)
@given(histories, st.integers(0, 2**32 - 1))
def test_every_drawn_transition_is_a_step_of_a_live_episode(history, seed):
    store, model = filled(*history)
    real = {
        (float(e.obs[t, 0]), float(e.act[t, 0]), float(e.obs[t + 1, 0]), float(e.reward[t])): (
            0.0 if e.terminated and t == e.length - 1 else np.float32(GAMMA).item(),
            np.float32(e.episode_return).item(),
            e.length,
            number,
        )
        for number, e in model
        for t in range(e.length)
    }
    b = transitions(store, 64, GAMMA, np.random.default_rng(seed))
    keys = zip(b.obs[:, 0].tolist(), b.act[:, 0].tolist(), b.next_obs[:, 0].tolist(), b.reward.tolist(), strict=True)
    values = zip(b.discount.tolist(), b.episode_return.tolist(), b.length.tolist(), b.episode.tolist(), strict=True)
    for key, value in zip(keys, values, strict=True):
        assert real[key] == value


@settings(max_examples=100, deadline=None)
@given(histories, st.integers(1, 12), st.sampled_from(["length", "uniform"]), st.integers(0, 2**32 - 1))
def test_every_subset_is_of_distinct_steps_of_one_live_episode(history, k, by, seed):
    store, model = filled(*history)
    live = dict(model)
    out = subsets(store, 8, k, np.random.default_rng(seed), by=by)
    for i in range(8):
        number, mask = int(out.obs[i, 0, 0]) // 100, out.mask[i].numpy()
        e = live[number]
        steps = out.obs[i, :, 0].numpy() - 100 * number
        assert mask.sum() == min(k, e.length) == len(set(steps[mask]))
        assert ((steps >= 0) & (steps < e.length)).all()
        assert (steps[~mask] == 0).all() and mask[: mask.sum()].all()
        np.testing.assert_array_equal(out.next_obs[i, :, 0].numpy(), out.obs[i, :, 0].numpy() + 1)
        np.testing.assert_array_equal(out.act[i, :, 0].numpy(), e.act[steps.astype(int), 0])
        assert (int(out.length[i]), float(out.episode_return[i])) == (e.length, np.float32(e.episode_return))


@settings(max_examples=50, deadline=None)
@given(histories, st.integers(0, 39))
def test_a_store_refilled_from_any_older_episode_holds_the_same(history, start):
    capacity, lengths = history
    store, _ = filled(capacity, lengths)
    start = min(start, store.first_id)
    other = EpisodeStore(capacity, SPEC)
    other.refill(start, (episode(i, *lengths[i]) for i in range(start, len(lengths))))
    assert (other.first_id, other.next_id) == (store.first_id, store.next_id)
    assert other.lengths.tolist() == store.lengths.tolist()


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("length", [5, 12])  # of 3 steps: by random keys (T < 4k), by redrawing doubles (T >= 4k)
def test_all_subsets_are_equally_likely(length):
    store = EpisodeStore(40, SPEC)
    store.add(episode(0, length, False))
    draws = 20_000
    out = subsets(store, draws, 3, np.random.default_rng(7))
    number = {c: i for i, c in enumerate(combinations(range(length), 3))}
    counts = np.bincount([number[tuple(map(int, row))] for row in out.obs[:, :, 0].tolist()], minlength=len(number))
    # mean df, standard deviation sqrt(2 df): five of them are far out, and the seed is fixed
    df = len(number) - 1
    assert chi_square(counts, draws / len(number)) < df + 5 * np.sqrt(2 * df)


@pytest.mark.parametrize(("by", "share"), [("length", (0.1, 0.3, 0.6)), ("uniform", (1 / 3, 1 / 3, 1 / 3))])
def test_episodes_are_drawn_by_length_or_uniformly(by, share):
    store = EpisodeStore(40, SPEC)
    for number, length in enumerate((2, 6, 12)):
        store.add(episode(number, length, False))
    draws = 20_000
    out = subsets(store, draws, 1, np.random.default_rng(11), by=by)
    counts = np.bincount(out.obs[:, 0, 0].long().numpy() // 100, minlength=3)
    assert chi_square(counts, draws * np.array(share)) < 2 + 5 * 2


def test_transitions_are_uniform_over_steps_also_after_evictions():
    store, model = filled(25, [(3, True), (7, False), (1, True), (9, False), (2, False), (6, True)])
    steps = [100 * number + t for number, e in model for t in range(e.length)]
    draws = 20_000
    out = transitions(store, draws, GAMMA, np.random.default_rng(13))
    counts = np.array([(out.obs[:, 0] == s).sum().item() for s in steps])
    assert counts.sum() == draws
    df = len(steps) - 1
    assert chi_square(counts, draws / len(steps)) < df + 5 * np.sqrt(2 * df)
