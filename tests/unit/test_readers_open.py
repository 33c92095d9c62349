"""Paths, suites and Minari datasets: what opens, and what a wrong path is met with."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from apportion.data.open import JoinedSet, find_suite, open_demos, open_suite
from apportion.data.rlds import RldsSet
from apportion.data.schema import BadDemo, episodes
from apportion.types import UserError
from records_for_tests import (
    DATA,
    HDF5,
    PAIR,
    RLDS,
    STOVE,
    native,
    one_line,
)


def minari_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> tuple[Path, list]:
    """A dataset of 2 episodes written by the minari package, and its buffers."""
    import minari
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rng = np.random.default_rng(0)
    space = spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (32, 40, 3), np.uint8),
            "arm": spaces.Dict({"qpos": spaces.Box(-9, 9, (3,), np.float64)}),
            "pair": spaces.Tuple((spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(5))),
            "mission": spaces.Text(20),
        }
    )
    buffers = []
    for steps in (5, 7):
        observations = {
            "camera": np.full((steps + 1, 32, 40, 3), 77, np.uint8),
            "arm": {"qpos": rng.normal(size=(steps + 1, 3))},
            "pair": (rng.uniform(size=(steps + 1, 2)).astype(np.float32), rng.integers(0, 5, steps + 1)),
            "mission": ["goright"] * (steps + 1),
        }
        ended = [False] * (steps - 1) + [True]
        infos = {"success": np.array([False, *ended]), "power": rng.normal(size=(steps + 1, 2))}
        actions = rng.normal(size=(steps, 2)).astype(np.float32)
        rewards = list(rng.normal(size=steps))
        none = [False] * steps
        buffers.append(
            EpisodeBuffer(
                observations=observations,
                actions=actions,
                rewards=rewards,
                terminations=ended if steps == 5 else none,
                truncations=none if steps == 5 else ended,
                infos=infos,
            )
        )
    action_space = spaces.Box(-9, 9, (2,), np.float32)
    minari.create_dataset_from_buffers(
        "lab/reach-v0", buffers, observation_space=space, action_space=action_space, data_format=kind
    )
    return tmp_path / "lab" / "reach-v0", buffers


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["hdf5", "arrow", "parquet"])
def test_a_dataset_of_the_minari_package_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    path, buffers = minari_dataset(tmp_path, monkeypatch, kind)
    demos = open_demos(path)
    assert demos.info.format == "minari" and demos.info.name == "lab/reach-v0" and len(demos) == 2
    assert demos.info.proprio == {"arm.qpos": 3, "pair.0": 2, "pair.1": 5} and demos.info.action == 2
    for demo, buffer in zip(episodes(demos), buffers, strict=True):
        np.testing.assert_array_equal(demo.action, buffer.actions)
        np.testing.assert_array_equal(demo.reward, np.float32(buffer.rewards))
        np.testing.assert_array_equal(demo.proprio["arm.qpos"], np.float32(buffer.observations["arm"]["qpos"]))
        np.testing.assert_array_equal(demo.proprio["pair.1"].argmax(1), buffer.observations["pair"][1])
        np.testing.assert_array_equal(demo.extra["power"], buffer.infos["power"][1:])
        assert demo.observations == demo.length + 1 == len(demo.images["camera"])
        assert np.abs(demo.images["camera"].astype(int) - 77).max() <= 2
        assert demo.success is True and demo.language == "goright" and demo.task == "lab/reach-v0"
        assert demo.terminated is (demo.length == 5) and demo.truncated is (demo.length == 7)
    assert demos.read(1, "ends").images["camera"].shape == (3, 32, 40, 3)
    demos.close()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_minari_dataset_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, _ = minari_dataset(tmp_path, monkeypatch, "hdf5")
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/observations/arm/qpos"]
        file["episode_0/actions"][3] = np.nan
    demos = open_demos(path / "data" / "main_data.hdf5")
    for index, said in ((0, "step 3: action is not finite"), (1, "observations/arm/qpos is missing")):
        with pytest.raises(BadDemo) as error:
            demos.read(index)
        one_line(error, "main_data.hdf5", f"episode_{index}", said)


# --- paths


@pytest.mark.parametrize("path", [RLDS, RLDS / "1.0.0", HDF5, STOVE])
def test_every_way_to_name_a_set_opens_it(path: Path):
    assert len(open_demos(path)) == (3 if path == STOVE else 6)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (DATA / "libero_10_no_nops", f"did you mean {RLDS}?"),
        (DATA / "zzz" / "at" / "all", "has no zzz"),
        (RLDS / "1.0.0" / "liber_o10-train.tfrecord-00000-of-00002", f"give its folder, {RLDS / '1.0.0'}"),
        (DATA, "give one of them: libero_10, libero_10_no_noops"),
        (Path(__file__), "is no file of demonstrations"),
        (Path(__file__).parent, "holds no demonstrations"),
    ],
)
def test_a_wrong_path_is_met_with_a_hint(path: Path, said: str):
    with pytest.raises(UserError) as error:
        open_demos(path)
    one_line(error, path, said)


def test_a_set_of_several_versions_wants_one(tmp_path: Path):
    for version in ("1.0.0", "1.1.0"):
        shutil.copytree(PAIR / "libero_spatial_no_noops" / "1.0.0", tmp_path / version)
    with pytest.raises(UserError, match=r"holds versions 1\.0\.0, 1\.1\.0: give one"):
        open_demos(tmp_path)


def test_suites_are_found_by_folder_and_by_the_name_that_a_set_gives_itself(tmp_path: Path):
    assert find_suite(RLDS, "libero-10") == [RLDS] and find_suite(HDF5, "libero-10") == [HDF5]
    assert find_suite(PAIR, "libero-spatial") == [PAIR / "libero_spatial_no_noops"]
    renamed = Path(shutil.copytree(RLDS / "1.0.0", tmp_path / "mine" / "1.0.0"))
    assert find_suite(renamed, "libero-10") == [renamed]
    with pytest.raises(UserError, match="holds libero-10, not libero-goal"):
        find_suite(renamed, "libero-goal")
    with pytest.raises(UserError, match="holds no libero_90"):
        find_suite(tmp_path, "libero-90")
    with pytest.raises(UserError, match="did you mean libero-object"):
        find_suite(RLDS, "libero-objects")


def test_libero_100_is_its_two_parts(tmp_path: Path):
    for suite in ("libero_10", "libero_90"):
        (tmp_path / suite).mkdir()
        native(tmp_path / suite / "a_demo.hdf5", {"demo_0": 3, "demo_1": 4})
    demos = open_suite(tmp_path, "libero-100")
    assert isinstance(demos, JoinedSet) and demos.info.name == "libero-100" and len(demos) == 4
    assert [Path(d.source.path).parent.name for d in episodes(demos)] == ["libero_90"] * 2 + ["libero_10"] * 2
    assert [d.length for d in episodes(demos)] == [3, 4, 3, 4]


def test_sets_with_different_columns_do_not_join():
    with pytest.raises(UserError, match="differ in cameras"):
        JoinedSet("both", [RldsSet(RLDS), RldsSet(PAIR / "libero_spatial_no_noops")])


@pytest.mark.parametrize("package", ["simplejpeg", "google_crc32c"])
def test_a_missing_package_is_one_line(package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UserError) as error:
        RldsSet(RLDS).read(0)
    one_line(error, package.replace("_", "-"), "pip install 'apportion[demos]'")
