"""Rooms stand on those below them: no circle of imports, not even a late one, inside a function."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import apportion

ROOT = Path(apportion.__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.glob("apportion/**/*.py")
}


def imported(path):
    """The package's own modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in FILES else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def circle(graph):
    """Modules that import each other in a ring, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_module_imports_one_that_stands_on_it():
    graph = {name: {used for used in imported(path) if used in FILES} - {name} for name, path in FILES.items()}
    assert {"apportion.power.grid.draw", "apportion.power.grid.compile"} <= graph["apportion.power.grid.world"]
    assert circle(graph) == []
    assert circle({**graph, "apportion.power.grid.draw": {"apportion.power.grid.world"}})  # and one would be seen


@pytest.mark.parametrize("words", [["--help"], ["power", "--help"], ["power", "solve", "--help"]])
def test_help_imports_no_compiler_and_no_pictures(words):
    script = (
        "import sys; from apportion.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*(name for name in ('numba', 'matplotlib', 'PIL') if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    assert "usage" in done.stdout and done.stderr.split() == []


def test_a_world_is_loaded_without_what_only_pictures_need():
    script = (
        "import sys; from apportion.power.grid.world import load_world; load_world('trivial')\n"
        "print('numba' in sys.modules, 'matplotlib' in sys.modules, 'PIL' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_training_imports_the_compiler_only_where_something_is_compiled():
    script = (
        "import sys, apportion.train.online, apportion.train.offline, apportion.train.power\n"
        "print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
