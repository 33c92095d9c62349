"""Frames come back out of the film as they went in."""

import sys

import numpy as np
import pytest

from apportion.report.video import write_mp4
from apportion.types import UserError


def test_a_film_holds_its_frames_in_order_with_odd_sides_padded(tmp_path):
    import av

    frames = (np.full((47, 63, 3), 20 * i, np.uint8) for i in range(10))
    path = write_mp4(frames, tmp_path / "new" / "film.mp4", fps=25)
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        seen = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        assert (stream.width, stream.height, stream.average_rate) == (64, 48, 25)
    assert len(seen) == 10
    assert [float(f.mean()) for f in seen] == pytest.approx([20 * i for i in range(10)], abs=3)
    assert [p.name for p in path.parent.iterdir()] == ["film.mp4"]


def test_no_frames_is_the_users_slip(tmp_path):
    with pytest.raises(UserError, match="render_mode='rgb_array'"):
        write_mp4(iter([]), tmp_path / "film.mp4", fps=30)


def test_a_frame_of_another_size_is_named_and_leaves_no_file(tmp_path):
    frames = [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 18, 3), np.uint8)]
    with pytest.raises(UserError, match=r"frame 1 is uint8 \(16, 18, 3\)"):
        write_mp4(frames, tmp_path / "film.mp4", fps=30)
    assert not list(tmp_path.iterdir())


def test_missing_package_gives_the_line_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'apportion\[video\]'"):
        write_mp4([], tmp_path / "film.mp4", fps=30)


@pytest.mark.parametrize("place", ["/proc/film.mp4", "a file/film.mp4", "a directory"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a directory").mkdir()
    with pytest.raises(UserError, match=r"the film .* cannot be written") as caught:
        write_mp4([np.zeros((16, 16, 3), np.uint8)] * 3, tmp_path / place, fps=30)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a directory", "a file"]
