"""What does a batch cost from the store, is the loader in the way, and does memory grow with the data?

    python benchmarks/store.py PATH/libero_spatial_no_noops

A batch is 32 x 32 random steps with their next observations, as RRD on LIBERO draws it. From the store: two cameras at
256 pixels, the same at 84, pooled features of 2176 numbers. Against it: read the same episodes' RLDS records and decode
only the frames that are needed, with libjpeg-turbo. Then a fit on cached features of 500 made-up episodes: its loader's
share of a step, and its anonymous memory beside that of a fit on 50. One thread. Writes docs/results/store.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from apportion.config import FitConfig
from apportion.data.as_store import settled
from apportion.data.filters import resize
from apportion.data.frames import decode_frames
from apportion.data.rlds import RldsSet
from apportion.data.schema import Demo, SetInfo, Source, episodes
from apportion.data.store import DemoStore, StoreWriter
from apportion.data.tfrecord import parse_example, read_record, record_offsets
from apportion.run.rundir import cpu_name
from apportion.store.sample import choose_steps
from apportion.train.fit_session import draw, learn, make_fit
from apportion.train.ranks import Ranks

HERE = Path(__file__).parent.parent
M, K, FEATURES, LENGTH = 32, 32, 2176, 270
IMAGES = ("steps/observation/image", "steps/observation/wrist_image")


def cpu_ms(work: Callable[[], object], times: int) -> float:
    """Median CPU milliseconds of this process."""
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append((time.process_time() - start) * 1e3)
    return statistics.median(found)


def drawn(length: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Episodes (M,), and K distinct steps of each with a next observation."""
    at = rng.integers(len(length), size=M)
    return at, choose_steps(length[at] - 1, K, rng)


def from_store(store: DemoStore, names: list[str], rng: np.random.Generator) -> Callable[[], object]:
    def batch() -> object:
        at, step = drawn(store.rows, rng)
        row = store.start[at][:, None] + step
        return [np.asarray(store.columns[name])[np.stack([row, row + 1])] for name in names]

    return batch


def from_records(demos: RldsSet, rng: np.random.Generator) -> Callable[[], object]:
    shards = sorted({demos.read(i, "none").source.path for i in range(len(demos))})
    records = [(demos.path / shard, place) for shard in shards for place in record_offsets(demos.path / shard)[0]]
    length = np.array([demos.read(i, "none").length for i in range(len(demos))])
    sizes = [(camera.height, camera.width) for camera in demos.info.cameras.values()]

    def batch() -> object:
        at, step = drawn(length, rng)
        out = []
        for episode, steps in zip(at, step, strict=True):
            file, place = records[episode]
            values = parse_example(read_record(file, *place))
            rows = np.unique(np.concatenate([steps, steps + 1])).tolist()
            for name, (height, width) in zip(IMAGES, sizes, strict=True):
                out.append(decode_frames([values[name][row] for row in rows], height, width))  # type: ignore[misc]
        return out

    return batch


def write_frames(demos: RldsSet, path: Path, size: int | None) -> DemoStore:
    with StoreWriter(path, demos.info) as out:
        for demo in episodes(demos):
            out.add(demo if size is None else resize(demo, dict.fromkeys(demo.images, (size, size))))
    return DemoStore(path)


def write_features(path: Path, count: int) -> DemoStore:
    """Made-up episodes: half of them succeed, their features are noise."""
    rng = np.random.default_rng(0)
    info = SetInfo("made up", "store", str(path), {}, {"state": FEATURES}, 7)
    with StoreWriter(path, info) as out:
        for i in range(count):
            state = rng.standard_normal((LENGTH + 1, FEATURES), np.float32)
            act = rng.standard_normal((LENGTH, 7), np.float32)
            reward = np.zeros(LENGTH, np.float32)
            reward[-1] = i % 2
            outcome = (i % 2 == 1, i % 2 == 0, i % 2 == 1)
            out.add(Demo({}, {"state": state}, act, reward, *outcome, "do", "do", Source("made up", i)))
    return DemoStore(path)


def fitting(store: DemoStore, steps: int) -> dict[str, float]:
    """Milliseconds of drawing and of learning per step, and anonymous memory in MB."""
    torch.set_num_threads(1)
    config = settled(FitConfig(str(store.path), rrd_batch_size=M * K, rrd_sample_size=K), store.info)
    session = make_fit(config, store, Ranks(), lambda line: None, "cpu")
    drawing, learning = [], []
    for _ in range(steps):
        start = time.process_time()
        batch = draw(session)
        middle = time.process_time()
        learn(session, *batch)
        drawing.append((middle - start) * 1e3)
        learning.append((time.process_time() - middle) * 1e3)
    anonymous = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert anonymous
    return {
        "draw_ms": statistics.median(drawing),
        "learn_ms": statistics.median(learning),
        "anonymous_mb": int(anonymous[1]) / 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="an RLDS set of LIBERO")
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)  # in a process of its own: memory is measured
    parser.add_argument("--out", type=Path, default=HERE / "docs" / "results" / "store.json")
    args = parser.parse_args()
    if args.fit:
        print(json.dumps(fitting(DemoStore(args.fit), 100)))
        return
    rng, demos = np.random.default_rng(0), RldsSet(args.data)
    with tempfile.TemporaryDirectory() as folder:
        names = [f"image.{camera}" for camera in demos.info.cameras]
        full, small = (write_frames(demos, Path(folder) / str(size), size) for size in (None, 84))
        fits = {}
        for count in (50, 500):
            path = Path(folder) / f"features{count}"
            features = write_features(path, count)
            out = subprocess.run([sys.executable, __file__, "--fit", str(path)], check=True, capture_output=True)
            fits[str(count)] = json.loads(out.stdout)
        ways = {
            "256 px": from_store(full, names, rng),
            "84 px": from_store(small, names, rng),
            "features": from_store(features, ["proprio.state"], rng),
            "decoded on the fly": from_records(demos, rng),
        }
        batch_ms = {name: cpu_ms(way, args.times) for name, way in ways.items()}
    fly, last = batch_ms["decoded on the fly"], fits["500"]
    result = {
        "machine": {"cpu": cpu_name(), "platform": platform.platform()},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "batch_cpu_ms": batch_ms,
        "times_as_fast_as_decoding": {name: fly / ms for name, ms in batch_ms.items() if name != "decoded on the fly"},
        "fit_on_features": fits,
        "loader_share": last["draw_ms"] / (last["draw_ms"] + last["learn_ms"]),
        "anonymous_memory_500_over_50": last["anonymous_mb"] / fits["50"]["anonymous_mb"],
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
