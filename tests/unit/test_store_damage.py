"""Stores that are not as they were written: one line that names the file and what to do, never a traceback."""

import json
from pathlib import Path

import pytest

from apportion.cli import main
from apportion.data.store import DemoStore
from apportion.types import UserError
from demos_for_tests import demo, store
from records_for_tests import one_line

GONE = object()


@pytest.fixture
def arm(tmp_path):
    store(tmp_path / "arm", [demo(i, 5 + i, frames=False) for i in range(3)]).close()
    return tmp_path / "arm"


def changed(file: Path, *path, to) -> None:
    """The JSON of `file` with another value under `path`, or without one."""
    tree = json.loads(file.read_text())
    place = tree
    for key in path[:-1]:
        place = place[key]
    if to is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    file.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        *(((1, name), GONE, f"episode 1 has no {name}") for name in ("rows", "length", "success", "task", "source")),
        ((1, "length"), "six", "episode 1 has length 'six' and rows 7"),
        ((2, "length"), 0, "episode 2 has length 0"),
        ((0, "rows"), 9, "episode 0 has length 5 and rows 9"),
        ((0, "rows"), True, "episode 0 has length 5 and rows True"),
        ((0, "success"), "yes", "episode 0 has success 'yes': true, false or null"),
        ((0, "terminated"), None, "episode 0 has terminated None, no true or false"),
        ((0, "language"), 3, "episode 0 has language 3, no text"),
        ((0, "source"), ["file"], "episode 0 has source ['file']"),
        ((1,), "demo_1", "episode 1 is a str"),
    ],
)
def test_a_damaged_list_of_episodes_names_the_episode(arm, path, to, said):
    changed(arm / "episodes.json", *path, to=to)
    with pytest.raises(UserError) as error:
        DemoStore(arm)
    one_line(error, arm / "episodes.json", said, "convert the data again")


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        (("version",), 7, "of version 7, this release reads 1"),
        (("rows",), 20, "it speaks of 20 rows, and episodes.json of 21"),
        (("columns",), [], "it has no columns"),
        (("columns", "action"), GONE, "it has no column action of 1 dimension(s)"),
        (("columns", "reward", "shape"), [1], "it has no column reward of 0 dimension(s)"),
        (("columns", "action", "shape"), [-7], "column 'action' of"),
        (("columns", "action", "shape"), "7", "column 'action' of"),
        (("columns", "action", "dtype"), "object", "column 'action' of"),
        (("columns", "proprio.state"), None, "column 'proprio.state' of None is not allowed"),
        (("columns", "proprio.state"), GONE, "column proprio.state is said to have rows of (8,), and has None"),
        (("info",), GONE, "its info is not as it was written"),
        (("info", "fps"), GONE, "its info is not as it was written"),
        (("info", "cameras"), ["image"], "its info is not as it was written"),
        (
            ("info", "cameras"),
            {"image": {"height": 8, "width": 8}},
            "column image.image is said to have rows of (8, 8, 3)",
        ),
        (("info", "action"), 6, "column action is said to have rows of (6,), and has (7,)"),
    ],
)
def test_a_damaged_description_names_what_is_wrong(arm, path, to, said):
    changed(arm / "store.json", *path, to=to)
    with pytest.raises(UserError) as error:
        DemoStore(arm)
    one_line(error, arm / "store.json", said)


@pytest.mark.parametrize("name", ["store.json", "episodes.json"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"rows": 1', "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"3", "it holds a int"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_json_or_not_there(arm, name, content, said):
    if content is None:
        (arm / name).unlink()
    else:
        (arm / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        DemoStore(arm)
    one_line(error, arm / name, said, "convert the data again")


def test_a_store_without_episodes(arm):
    (arm / "episodes.json").write_text("[]")
    with pytest.raises(UserError) as error:
        DemoStore(arm)
    one_line(error, arm / "episodes.json", "it lists no episode")


@pytest.mark.parametrize("size", [None, 0, 21 * 4 - 1, 21 * 4 + 4])
def test_columns_of_the_wrong_length(arm, size):
    file = arm / "reward.bin"
    if size is None:
        file.unlink()
    else:
        file.write_bytes(bytes(size))
    with pytest.raises(UserError) as error:
        DemoStore(arm)
    one_line(error, file, f"{'no' if size is None else size} bytes instead of 84", "convert the data again")


def test_the_command_line_ends_with_that_line_and_exit_code_2(arm, tmp_path, capsys):
    changed(arm / "episodes.json", 1, "task", to=GONE)
    for words in (["data", "inspect", str(arm)], ["fit", "--data", str(arm), "--runs-dir", str(tmp_path / "runs")]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "episode 1 has no task: the store is damaged" in said and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()
