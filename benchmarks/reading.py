"""How fast are RLDS episodes read and decoded? Ours against tfds with TensorFlow, on the same files, one thread each.

    python -m venv tf && tf/bin/pip install tensorflow-cpu tensorflow-datasets
    python benchmarks/reading.py --tf-python tf/bin/python --data PATH/libero_spatial_no_noops

Both give every step's state, action, reward and the pixels of both cameras as NumPy arrays, episode by episode; tfds as
fast as it goes: all steps of an episode in one batch. Its Python is a process of its own, for TensorFlow is not
installed beside apportion; the two take turns, pair by pair, and a pair's ratio is of CPU seconds, so that a busy
machine weighs less. Before the first pair both read everything once, and have read the same. Writes
docs/results/reading.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.rlds import RldsSet
from apportion.data.rlds_meta import version_folder
from apportion.data.schema import episodes

HERE = Path(__file__).parent.parent
PEER = r"""
import json, sys, time
begin = time.perf_counter()
import numpy as np, resource, tensorflow as tf, tensorflow_datasets as tfds
from figures import machine, quartiles
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
imported = time.perf_counter() - begin
options = tf.data.Options()
options.threading.private_threadpool_size = 1
options.threading.max_intra_op_parallelism = 1
options.autotune.enabled = False
config = tfds.ReadConfig(options=options, interleave_cycle_length=1, try_autocache=False)

def read():
    images, steps, total, light = 0, 0, 0.0, 0.0
    start, cpu = time.perf_counter(), time.process_time()
    for path in sys.argv[1:]:
        sets = tfds.builder_from_directory(path).as_dataset(read_config=config, shuffle_files=False)
        for episode in (episode for split in sets.values() for episode in split):
            (step,) = episode["steps"].batch(512).as_numpy_iterator()  # LIBERO's longest episode: 505
            frames = [v for v in step["observation"].values() if v.dtype == np.uint8]
            steps += len(step["action"])
            images += sum(map(len, frames))
            total += sum(float(v.sum(dtype=np.float64)) for v in (step["action"], step["observation"]["state"]))
            light += sum(float(v[:, ::16, ::16].mean()) * len(v) for v in frames)
    return dict(wall=time.perf_counter() - start, cpu=time.process_time() - cpu, steps=steps, images=images,
                total=total, light=light / max(images, 1))

print(json.dumps(dict(tensorflow=tf.__version__, tfds=tfds.__version__, import_s=imported)), flush=True)
for line in sys.stdin:
    print(json.dumps(dict(read(), rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)), flush=True)
"""


def ours(paths: list[Path]) -> dict[str, Any]:
    """Reads all episodes of all sets."""
    images, steps, total, light = 0, 0, 0.0, 0.0
    start, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        for demo in episodes(RldsSet(path)):
            steps += demo.length
            images += sum(map(len, demo.images.values()))
            total += float(demo.action.sum(dtype=np.float64)) + float(demo.proprio["state"].sum(dtype=np.float64))
            light += sum(float(v[:, ::16, ::16].mean()) * len(v) for v in demo.images.values())
    cpu, wall = time.process_time() - cpu, time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "wall": wall,
        "cpu": cpu,
        "steps": steps,
        "images": images,
        "total": total,
        "light": light / max(images, 1),
    } | {"rss_mb": peak}


def peer(python: str, paths: list[Path]) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """(what it is, a function that reads everything once), in a process of its own."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [python, "-c", PEER, *map(str, paths)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet)
    assert process.stdin and process.stdout

    def answer() -> dict[str, Any]:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{python} cannot read the sets with tfds: see above")
        return json.loads(line)

    def read() -> dict[str, Any]:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
        return answer()

    return answer(), read


def same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Exits unless both have read the same; TensorFlow's decoder differs by some grey levels in some pixels."""
    counts = all(mine[key] == theirs[key] for key in ("steps", "images"))
    if not counts or abs(mine["total"] - theirs["total"]) > 1e-3 or abs(mine["light"] - theirs["light"]) > 0.5:
        raise SystemExit(f"the two did not read the same: {mine} against {theirs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tf-python", required=True, help="a Python with tensorflow and tensorflow_datasets")
    parser.add_argument("--data", type=Path, nargs="+", default=[HERE / "tests" / "data" / "libero_10_no_noops"])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "results" / "reading.json")
    args = parser.parse_args()
    paths = [version_folder(path) for path in args.data]
    about, theirs = peer(args.tf_python, paths)
    first = ours(paths)
    same(first, theirs())
    runs: dict[str, list[dict[str, Any]]] = {"apportion": [], "tfds": []}
    for _ in range(args.pairs):
        runs["apportion"].append(ours(paths))
        runs["tfds"].append(theirs())
    count = sum(len(RldsSet(path)) for path in paths)
    ratios = {
        clock: [b[clock] / a[clock] for a, b in zip(runs["apportion"], runs["tfds"], strict=True)]
        for clock in ("cpu", "wall")
    }
    packages = ("numpy", "simplejpeg", "google-crc32c")
    result = {
        "machine": machine() | {"threads": 1},
        "versions": {name: version(name) for name in packages} | {k: about[k] for k in ("tensorflow", "tfds")},
        "setting": {
            "sets": [path.parent.name for path in paths],
            "episodes": count,
            **{key: first[key] for key in ("steps", "images")},
            "pairs": args.pairs,
        },
        "speed_relative_to_tfds": {f"{clock} seconds": quartiles(values) for clock, values in ratios.items()},
        "per_cpu_second": {
            name: {
                "images": quartiles([first["images"] / run["cpu"] for run in done]),
                "episodes": quartiles([count / run["cpu"] for run in done]),
            }
            for name, done in runs.items()
        },
        "peak_rss_mb": {name: max(run["rss_mb"] for run in done) for name, done in runs.items()},
        "tfds_import_seconds": about["import_s"],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for clock, value in result["speed_relative_to_tfds"].items():
        print(f"{clock}: {value['median']:.2f}x as fast ({value['quartile1']:.2f} to {value['quartile3']:.2f})")
    for name, value in result["per_cpu_second"].items():
        print(
            f"{name}: {value['images']['median']:.0f} images, {value['episodes']['median']:.1f} episodes a CPU second"
        )


if __name__ == "__main__":
    main()
