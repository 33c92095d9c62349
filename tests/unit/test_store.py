"""The episode store and what is drawn from it, with numbers worked out by hand."""

import numpy as np
import pytest
import torch

from apportion.store.episodes import EpisodeStore, pack, unpack
from apportion.store.sample import BestEpisodes, subsets, transitions
from apportion.types import Episode, Spec, UserError

SPEC = Spec(obs_shape=(2,), obs_dtype="float32", act_kind="box", act_dim=1)


def episode(length, first=0.0, terminated=False, reward=1.0, env=0, seed=0):
    """Observation t is (first + t, -first - t), action t is first + t."""
    t = first + np.arange(length + 1, dtype=np.float32)
    return Episode(
        obs=np.stack((t, -t), axis=1),
        act=t[:-1, None],
        reward=np.full(length, reward, np.float32),
        terminated=terminated,
        env=env,
        seed=seed,
    )


def same(a: Episode, b: Episode) -> bool:
    arrays = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("obs", "act", "reward"))
    return arrays and (a.terminated, a.env, a.seed) == (b.terminated, b.env, b.seed)


def test_an_episode_of_three_steps_takes_four_rows_and_comes_back_whole():
    store = EpisodeStore(8, SPEC)
    one = episode(3, first=10, terminated=True, env=2, seed=77)
    assert store.add(one) == 0
    assert store.add(episode(3)) == 1  # 8 rows: full to the last
    assert (store.n_episodes, store.n_transitions, store.first_id, store.next_id) == (2, 6, 0, 2)
    assert same(store.episode(0), one)


def test_the_oldest_whole_episodes_make_place_and_numbers_are_never_reused():
    store = EpisodeStore(10, SPEC)
    for length in (2, 2, 2):  # 3 rows each: 9 of 10
        store.add(episode(length))
    assert store.add(episode(4, first=5)) == 3  # needs 5: two must go, and it wraps around the end
    assert (store.first_id, store.next_id) == (2, 4)
    assert store.lengths.tolist() == [2, 4]
    assert same(store.episode(3), episode(4, first=5))
    with pytest.raises(KeyError, match="episode 1 is not in the store: it holds 2 to 3"):
        store.episode(1)


def test_an_episode_that_can_never_fit_is_a_clear_error_and_changes_nothing():
    store = EpisodeStore(5, SPEC)
    store.add(episode(2))
    with pytest.raises(UserError, match="give it at least 6"):
        store.add(episode(5))
    assert store.n_episodes == 1


def test_arrays_of_the_wrong_shape_are_refused():
    store = EpisodeStore(50, SPEC)
    good = episode(3)
    with pytest.raises(ValueError, match="obs has shape"):
        store.add(Episode(good.obs[:-1], good.act, good.reward, False, 0, 0))
    with pytest.raises(ValueError, match="at least 1 step"):
        store.add(Episode(good.obs[:1], good.act[:0], good.reward[:0], False, 0, 0))


def test_a_million_halfcheetah_transitions_cost_at_most_1_3_float32_copies():
    steps, length = 1_000_000, 1000
    spec = Spec((17,), "float32", "box", 6)
    store = EpisodeStore(steps + steps // length, spec)
    zeros = Episode(
        np.zeros((length + 1, 17), np.float32),
        np.zeros((length, 6), np.float32),
        np.zeros(length, np.float32),
        False,
        0,
        0,
    )
    for _ in range(steps // length):
        store.add(zeros)
    assert store.n_transitions == steps
    assert store.nbytes <= 1.3 * steps * (17 + 6 + 1) * 4


def test_the_table_does_not_grow_while_episodes_come_and_go():
    store = EpisodeStore(100, SPEC)
    for i in range(1000):
        store.add(episode(1, first=i))
    assert store.n_episodes == 50
    assert store.nbytes < 100 * 4 * 4 + 200 * 60
    assert store.episode(999).obs[0, 0] == 999


def test_discount_is_zero_only_at_the_last_step_of_a_terminated_episode():
    store = EpisodeStore(20, SPEC)
    store.add(episode(2, first=0, terminated=True))
    store.add(episode(2, first=100, terminated=False))
    batch = transitions(store, 200, 0.5, np.random.default_rng(0))
    expected = {0.0: 0.5, 1.0: 0.0, 100.0: 0.5, 101.0: 0.5}
    assert {(o, d) for o, d in zip(batch.obs[:, 0].tolist(), batch.discount.tolist(), strict=True)} == set(
        expected.items()
    )


def test_a_batch_carries_return_length_and_number_of_each_transitions_episode():
    store = EpisodeStore(8, SPEC)
    for first, length, reward in ((0, 3, 9.0), (10, 2, 1.5), (20, 3, 2.0)):  # the third evicts the first
        store.add(episode(length, first=first, reward=reward))
    batch = transitions(store, 300, 0.99, np.random.default_rng(1))
    seen = set(
        zip(
            batch.episode.tolist(),
            batch.episode_return.tolist(),
            batch.length.tolist(),
            batch.reward.tolist(),
            strict=True,
        )
    )
    assert seen == {(1, 3.0, 2, 1.5), (2, 6.0, 3, 2.0)}
    assert torch.equal(batch.next_obs[:, 0], batch.obs[:, 0] + 1)
    assert torch.equal(batch.act[:, 0], batch.obs[:, 0])


def test_nothing_can_be_drawn_before_an_episode_has_closed():
    store = EpisodeStore(8, SPEC)
    with pytest.raises(UserError, match="raise --warmup"):
        transitions(store, 4, 0.99, np.random.default_rng(0))
    with pytest.raises(UserError, match="raise --warmup"):
        subsets(store, 4, 2, np.random.default_rng(0))


def test_an_episode_shorter_than_k_is_taken_whole_and_masked():
    store = EpisodeStore(30, SPEC)
    store.add(episode(2, first=7))
    out = subsets(store, 3, 4, np.random.default_rng(0))
    assert out.obs[:, :, 0].tolist() == [[7.0, 8.0, 7.0, 7.0]] * 3  # the rest repeats step 0
    assert out.mask.tolist() == [[True, True, False, False]] * 3
    assert out.length.tolist() == [2, 2, 2]


def test_short_and_long_episodes_mix_in_one_draw():
    store = EpisodeStore(100, SPEC)
    store.add(episode(2, first=0))
    store.add(episode(40, first=1000))
    out = subsets(store, 64, 4, np.random.default_rng(0), by="uniform")
    short = out.length == 2
    assert 0 < int(short.sum()) < 64
    assert (out.mask.sum(1) == torch.where(short, 2, 4)).all()
    assert out.mask[~short].all() and (out.obs[~short][:, :, 0] >= 1000).all()
    steps = out.obs[~short][:, :, 0]
    assert (steps[:, 1:] > steps[:, :-1]).all()  # distinct, in order of time


def test_k_none_gives_whole_episodes():
    store = EpisodeStore(100, SPEC)
    store.add(episode(3, first=0, reward=2.0))
    store.add(episode(5, first=100))
    out = subsets(store, 40, None, np.random.default_rng(0))
    assert out.obs.shape == (40, 5, 2)
    assert torch.equal(out.mask.sum(1), out.length)
    assert set(out.episode_return.tolist()) == {6.0, 5.0}


def test_an_episode_comes_back_whole_across_the_end_of_the_ring():
    store = EpisodeStore(10, SPEC)
    for first in (0, 10, 20):
        store.add(episode(3, first=first))
    assert store.episode(2).obs[:, 0].tolist() == [20, 21, 22, 23]


def test_discrete_actions_and_bytes_keep_their_types():
    spec = Spec((4, 3), "uint8", "discrete", 5)
    store = EpisodeStore(20, spec)
    obs = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    store.add(Episode(obs, np.array([4, 0, 2]), np.ones(3, np.float32), True, 0, 0))
    batch = transitions(store, 10, 0.9, np.random.default_rng(0))
    assert (batch.obs.dtype, batch.act.dtype, batch.obs.shape) == (torch.uint8, torch.int64, (10, 4, 3))
    assert batch.act.shape == (10,)
    assert subsets(store, 2, 2, np.random.default_rng(0)).act.shape == (2, 2)


def test_a_draw_is_a_copy_that_later_episodes_do_not_change():
    store = EpisodeStore(4, SPEC)
    store.add(episode(3, first=0))
    before = transitions(store, 20, 0.9, np.random.default_rng(0))
    kept = before.obs.clone()
    store.add(episode(3, first=500))
    assert torch.equal(before.obs, kept)


def test_a_restored_store_gives_the_same_draws():
    store = EpisodeStore(23, SPEC)
    for i in range(9):
        store.add(episode(1 + i % 5, first=10 * i, terminated=i % 2 == 0, env=i, seed=100 + i))
    other = EpisodeStore(23, SPEC)
    other.load_state(store.state())
    assert (other.first_id, other.next_id) == (store.first_id, store.next_id)
    for i in range(9, 15):  # and goes on alike: the rows in use differ, the live episodes do not
        assert other.add(episode(1 + i % 5, first=10 * i)) == store.add(episode(1 + i % 5, first=10 * i))
    a, b = (transitions(s, 50, 0.9, np.random.default_rng(3)) for s in (store, other))
    for name in ("obs", "act", "next_obs", "reward", "discount", "episode_return", "length", "episode"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_pack_and_unpack_are_inverse_for_none_and_some():
    store = EpisodeStore(23, SPEC)
    assert list(unpack(pack(store, range(0)))) == []
    made = [episode(3, first=1, terminated=True, env=1, seed=5), episode(2, first=9)]
    for e in made:
        store.add(e)
    assert all(same(a, b) for a, b in zip(made, unpack(pack(store, range(2))), strict=True))


def test_best_episodes_keeps_the_highest_returns_and_the_later_of_equals():
    best = BestEpisodes(SPEC, count=2)
    assert best.offer(episode(2, first=0, reward=1.0))  # return 2
    assert best.offer(episode(2, first=10, reward=1.0))  # return 2
    assert best.offer(episode(2, first=20, reward=1.0))  # equal to both: the oldest goes
    assert best.offer(episode(3, first=30, reward=1.0))  # return 3: the older of the equal ones goes
    assert best.store.returns.tolist() == [2.0, 3.0]
    assert best.store.episode(0).obs[0, 0] == 20
    assert not best.offer(episode(5, first=40, reward=0.1))


def test_best_episodes_survives_its_state():
    best = BestEpisodes(SPEC, count=3)
    for i in range(6):
        best.offer(episode(1 + i, first=i, reward=float(3 - i)))
    other = BestEpisodes(SPEC, count=3)
    other.load_state(best.state())
    for b in (best, other):
        b.offer(episode(2, first=99, reward=2.5))
    assert (
        best.store.returns.tolist() == other.store.returns.tolist() == [4.0, 3.0, 5.0]
    )  # of the two 3s the older went


def test_best_episodes_restored_from_nothing_is_empty():
    other = BestEpisodes(SPEC)
    other.load_state(BestEpisodes(SPEC).state())
    assert other.store.n_episodes == 0


def test_the_path_of_other_devices_draws_the_same():
    store = EpisodeStore(13, SPEC)
    for i in range(4):
        store.add(episode(3, first=10 * i))
    draws = []
    for views in (store._views, None):  # None: torch's indexing, as on a GPU
        store._views = views
        rng = np.random.default_rng(5)
        draws.append((transitions(store, 20, 0.9, rng), subsets(store, 3, 2, rng)))
    for a, b in zip(*draws, strict=True):
        for name in ("obs", "act", "next_obs", *(("reward",) if hasattr(a, "reward") else ())):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
