"""Small LeRobot data sets for the tests, and ways of changing their files."""

import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apportion.data.schema import Camera, Demo, SetInfo, Source

LENGTHS = (7, 12, 5, 9)
IMAGE, WRIST = "observation.images.image", "observation.images.wrist_image"
STORAGE = {"lossy": {}, "lossless": {"lossless": True}, "png": {"video": False}}
INFO = SetInfo(
    name="made",
    format="libero",
    path="made",
    cameras={"image": Camera(32, 48, "rotated"), "wrist_image": Camera(32, 48, "opengl")},
    proprio={"state": tuple("abcdefgh"), "gripper": 1},
    action=7,
    fps=20.0,
)


def pictures(number: int, count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Smooth, and told apart: brightness rises by 4 from frame to frame, the colour is the episode's."""
    t, y, x = np.mgrid[:count, :height, :width]
    tint = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])[number % 4] * 60
    return (np.stack([60 + x, 60 + y, 90 + 0 * x], -1) + 4 * t[..., None] + tint).astype(np.uint8)


def made(number: int, steps: int, after_last: bool = True) -> Demo:
    """Episode `number`; the third is a failure."""
    random, seen, success = np.random.default_rng(number), steps + after_last, number != 2
    frames = pictures(number, seen)
    return Demo(
        images={"image": frames, "wrist_image": frames[:, ::-1, ::-1].copy()},
        proprio={
            "state": random.normal(size=(seen, 8)).astype(np.float32),
            "gripper": random.normal(size=(seen, 1)).astype(np.float32),
        },
        action=random.uniform(-1, 1, (steps, 7)).astype(np.float32),
        reward=np.where(np.arange(steps) == steps - 1, success, 0).astype(np.float32),
        terminated=success,
        truncated=not success,
        success=success,
        language=f"put bowl {number % 2} away",
        task=f"KITCHEN_{number % 2}",
        source=Source("x.hdf5", number, f"demo_{number}"),
        extra={
            "phase": random.integers(0, 5, steps),
            "pose": random.normal(size=(steps, 2, 3)),
            "shut": frames[:steps, 0, 0, 0] > 99,
        },
    )


DEMOS = [made(i, steps) for i, steps in enumerate(LENGTHS)]


def edit_info(root: Path, **changes):
    about = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**about, **changes}))


def edit_table(file: Path, change) -> None:
    """Rewrites a parquet file in one row group."""
    table = pq.ParquetFile(file).read()
    table = change(table)
    pq.write_table(table, file, row_group_size=max(1, len(table)))


def set_column(name: str, values) -> object:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def rewrite_video(file: Path, frames: np.ndarray, fps: int = 20) -> None:
    """As other writers do it: one key frame in all, and frames that refer to later ones; nearly without loss."""
    options = {"x264-params": "qp=2:keyint=250:bframes=3:b-adapt=0:scenecut=0"}
    with av.open(str(file), "w", format="mp4") as video:
        stream = video.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv444p"
        for pixels in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode(None))
