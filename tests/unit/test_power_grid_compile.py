"""Compiling grid worlds: states, levels, successors; limits that are told; the cache on disk."""

import numpy as np
import pytest

from apportion.power.cache import compile_world
from apportion.power.enumerate import enumerate_world
from apportion.power.grid.world import GridWorld
from apportion.types import UserError

TRIVIAL = "We We We We We We\nWe Ae Ro .. .. We\nWe We Ay We We We\nWe We We We We We\n"
BUSHES = "Ay Bu\nUn Ae\n"


def world(map_=TRIVIAL, name="w", **settings):
    return GridWorld.from_config({"map": map_, "max_steps": 5, **settings}, name)


def counted(compiled, horizon):
    """States, the step count told apart: all of those that exactly t steps can lead to, for every t."""
    return sum(compiled.reached(t) for t in range(horizon + 1))


@pytest.mark.parametrize(("horizon", "states"), [(5, 243), (10, 1115)])
def test_number_of_states_of_the_published_trivial_world(horizon, states):
    assert counted(world(max_steps=horizon).compile(), horizon) == states


def test_compiled_rows_are_the_worlds_successors():
    w = world(BUSHES, enter_bush_success_prob=0.4, max_steps=4)
    compiled = w.compile()
    assert 0 < compiled.expanded < len(compiled.states)
    joints = [(a, b) for a in range(4) for b in range(4)]
    for s in range(compiled.expanded):
        for j, joint in enumerate(joints):
            row = slice(*compiled.indptr[s * 16 + j : s * 16 + j + 2])
            states, probs = w.transitions(compiled.states[s], np.array(joint))
            np.testing.assert_array_equal(compiled.states[compiled.indices[row]], states)
            np.testing.assert_array_equal(compiled.probs[row], probs)
    assert len(compiled.indptr) == compiled.expanded * 16 + 1
    assert len(np.unique(compiled.states, axis=0)) == len(compiled.states)


def test_levels_are_the_fewest_steps():
    compiled = world("Ay .. .. Ae", max_steps=3).compile()
    np.testing.assert_array_equal(compiled.states[0], world("Ay .. .. Ae").initial())
    level = np.searchsorted(compiled.level_start, np.arange(len(compiled.states)), "right") - 1
    for s in range(compiled.expanded):
        reached = compiled.indices[compiled.indptr[s * 16] : compiled.indptr[(s + 1) * 16]]
        assert (level[reached] <= level[s] + 1).all()
    for s in range(1, len(compiled.states)):
        source = np.searchsorted(compiled.indptr, np.flatnonzero(compiled.indices == s), "right") - 1
        assert (level[source // 16] == level[s] - 1).any()


def test_without_a_horizon_every_state_is_found_and_expanded():
    endless, long = world(max_steps=None).compile(), world(max_steps=60).compile()
    assert endless.expanded == len(endless.states) == len(long.states) == long.expanded
    assert endless.horizon is None


def test_one_step_expands_the_first_state_only():
    compiled = world(max_steps=1).compile()
    assert compiled.expanded == 1
    assert compiled.reached(1) == len(compiled.states) == 12


def test_the_generic_way_finds_the_same_world():
    w = world(BUSHES, enter_bush_success_prob=0.4, max_steps=3)
    fast, slow = w.compile(), enumerate_world(w)
    np.testing.assert_array_equal(fast.level_start, slow.level_start)
    order = np.lexsort(slow.states.T[::-1])
    np.testing.assert_array_equal(fast.states[np.lexsort(fast.states.T[::-1])], slow.states[order])
    assert len(fast.probs) == len(slow.probs)


def test_worlds_larger_than_allowed_are_refused_with_the_numbers():
    with pytest.raises(UserError) as error:
        world(max_steps=30).compile(max_states=50)
    message = str(error.value)
    assert message.startswith("w: 64 states within 4 of 30 steps")
    assert "at most 50 are allowed" in message
    assert "--max-states" in message


def test_worlds_too_large_for_memory_are_refused_before_it_is_taken():
    with pytest.raises(UserError) as error:
        world(max_steps=30).compile(memory_limit=20_000)
    assert "the next step needs" in str(error.value)
    assert "--horizon" in str(error.value)
    assert "\n" not in str(error.value)


def test_too_many_joint_actions_are_refused():
    with pytest.raises(UserError, match="4 actions of 11 agents are too many joint actions"):
        world(" ".join(["Ay"] * 11)).compile()


def test_the_digest_follows_from_content_alone():
    assert world(name="a").digest == world(name="b", seed=3).digest
    others = [
        world(max_steps=6),
        world(stumble_probability=0.3),
        world(orientations=["s"]),
        world(can_push_rocks="ey"),
        world(possible_goals=["1,1, 4,2"]),
        world(action_class="object"),
        world(TRIVIAL.replace("..", "La", 1)),
    ]
    assert len({world().digest, *(w.digest for w in others)}) == 8


class Counting(GridWorld):
    """A grid world that knows how often it was compiled."""

    compiled = 0

    def compile(self, *, max_states=None, memory_limit=None):
        type(self).compiled += 1
        return super().compile(max_states=max_states, memory_limit=memory_limit)


@pytest.fixture
def counting():
    class Fresh(Counting):
        pass

    return Fresh


def kept_file(cache):
    (file,) = cache.iterdir()
    return file


def assert_same(a, b):
    for name in ("states", "level_start", "indptr", "indices", "probs", "terminal", "attained", "goal_weights"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("expanded", "n_actions", "humans", "robots", "still", "horizon", "digest"):
        assert getattr(a, name) == getattr(b, name)


def test_a_world_is_compiled_once_whatever_it_is_called(tmp_path, counting):
    cache = tmp_path / "not" / "yet"
    first = compile_world(counting.from_config({"map": TRIVIAL}, "first"), cache)
    again = compile_world(counting.from_config({"map": TRIVIAL}, "again"), cache)
    assert counting.compiled == 1
    assert_same(first, again)
    assert again.name == "again"


def test_another_horizon_is_another_file(tmp_path, counting):
    for horizon in (3, 4, 3):
        compile_world(counting.from_config({"map": TRIVIAL, "max_steps": horizon}, "w"), tmp_path)
    assert counting.compiled == 2
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["middle", "cut", "empty", "text"])
def test_a_damaged_file_is_told_and_made_again(tmp_path, counting, capsys, damage):
    w = counting.from_config({"map": TRIVIAL}, "w")
    first = compile_world(w, tmp_path)
    file = kept_file(tmp_path)
    content = file.read_bytes()
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    file.write_bytes({"middle": flipped, "cut": content[:half], "empty": b"", "text": b"hello\n"}[damage])
    assert_same(compile_world(w, tmp_path), first)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "damaged" in message
    assert "compiled again" in message
    assert counting.compiled == 2
    assert kept_file(tmp_path).read_bytes() == content


def test_a_file_of_another_world_is_not_used(tmp_path, counting, capsys):
    compile_world(counting.from_config({"map": BUSHES}, "w"), tmp_path)
    wrong = kept_file(tmp_path).read_bytes()
    kept_file(tmp_path).unlink()
    w = counting.from_config({"map": TRIVIAL}, "w")
    compile_world(w, tmp_path)
    kept_file(tmp_path).write_bytes(wrong)
    assert compile_world(w, tmp_path).digest == w.digest
    assert "it is of another world" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(tmp_path, counting, capsys):
    (tmp_path / "file").write_text("")
    compiled = compile_world(counting.from_config({"map": TRIVIAL}, "w"), tmp_path / "file" / "cache")
    assert compiled.expanded
    assert "is not kept" in capsys.readouterr().err


def test_limits_hold_for_what_is_read_from_the_cache(tmp_path):
    w = world()
    compile_world(w, tmp_path)
    with pytest.raises(UserError, match="at most 10 are allowed"):
        compile_world(w, tmp_path, max_states=10)
