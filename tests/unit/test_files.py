"""Files that are replaced in one step, by several processes at once and in spite of those that were killed."""

import json
import signal
import subprocess
import sys

import pytest

from apportion.run.files import replacing, write_atomic, write_json

KILLED = """
import sys
from pathlib import Path
from apportion.run.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


def test_two_that_write_one_file_at_once_leave_whole_content(tmp_path):
    path = tmp_path / "x.json"
    with replacing(path) as mine:
        mine.write(b"mine, from the beginning")
        with replacing(path) as other:
            other.write(b"other")
        assert path.read_bytes() == b"other"
        mine.write(b" to the end")
    assert path.read_bytes() == b"mine, from the beginning to the end"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    write_atomic(path, b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "folder", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x.json"]


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"step": 1})
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "written\n"
        other.send_signal(signal.SIGKILL)
    (left,) = tmp_path.glob("*.tmp")
    assert left.name.startswith(f"x.json.{other.pid}-")
    assert json.loads(path.read_bytes()) == {"step": 1}
    write_json(path, {"step": 2})
    assert json.loads(path.read_bytes()) == {"step": 2}
