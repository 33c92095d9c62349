"""How a command ends: after Ctrl-C it says how to go on, if anything was begun."""

import pytest

from apportion.ending import with_way_back


def stop():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ("config.json", "go on with apportion resume {run}"),  # before the first checkpoint too
        ("seeds.json", "go on with apportion resume {run}"),
        ("", "before anything was begun"),
    ],
)
def test_an_interrupted_run_says_how_to_go_on(tmp_path, kept, says):
    if kept:
        (tmp_path / kept).touch()
    with pytest.raises(KeyboardInterrupt) as stopped:
        with_way_back(tmp_path, stop)
    assert str(stopped.value) == says.format(run=tmp_path)
