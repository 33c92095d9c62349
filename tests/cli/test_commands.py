"""The command in a process of its own: exit codes, one line for a slip, nothing heavy for --help."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from apportion.cli import guarded, main
from apportion.types import UserError

ROOT = Path(__file__).parents[2]


def run(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "apportion", *argv], capture_output=True, text=True, cwd=cwd)


def test_help_and_version_answer_without_the_heavy_packages():
    code = (
        "import sys\n"
        "from apportion.cli import main\n"
        "assert main(['--help']) == 0 and main(['--version']) == 0 and main([]) == 0 and main(['trian']) == 2\n"
        "heavy = {'torch', 'tyro', 'gymnasium', 'numpy', 'matplotlib', 'rich', 'jaxtyping'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "train [PRESET] --env ENV" in done.stdout and "apportion 0." in done.stdout


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "unknown verb 'trian'; did you mean train?"),
        (["--versoin"], "unknown flag '--versoin'; did you mean --version?"),
        (["train", "--env", "Ant-v5", "--polyek", "0.9"], "did you mean --polyak?"),
        (["resume"], "the following arguments are required: run"),
        (["evaluate", "somewhere", "--episodes", "0"], "--episodes 0: at least 1"),
        (["evaluate", "somewhere", "--vido"], "did you mean --video?"),
        (["demo", "--steps", "1000"], "--steps 1000: the warm-up alone takes 1,000"),
        (["train", "quickstart", "--runs-dir", "/proc/x"], "/proc/x/Reacher-v5-rrd-sac-0 cannot be made"),
        (["train", "quickstart", "--runs-dir", "/proc/x", "--seeds", "0,1"], "/proc/x/Reacher-v5-rrd-sac cannot be"),
    ],
)
def test_a_slip_is_one_line_on_stderr_and_exit_code_2(argv, words, capfd):
    assert main(argv) == 2
    out, err = capfd.readouterr()
    assert words in err
    assert err.startswith("apportion: ") and err.count("\n") == 1
    assert not out


def test_the_exit_code_of_a_slip_is_that_of_the_process():
    done = run("trian")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1


def test_the_traceback_of_a_slip_is_there_for_those_who_ask(monkeypatch, capsys):
    def slip() -> int:
        try:
            raise RuntimeError("boom")
        except RuntimeError as error:
            raise UserError("environment 0 raised RuntimeError: boom") from error

    monkeypatch.delenv("APPORTION_TRACEBACK", raising=False)
    assert guarded(slip) == 2
    assert capsys.readouterr().err == "apportion: environment 0 raised RuntimeError: boom\n"
    monkeypatch.setenv("APPORTION_TRACEBACK", "1")
    assert guarded(slip) == 2
    said = capsys.readouterr().err
    assert 'raise RuntimeError("boom")' in said
    assert said.endswith("\napportion: environment 0 raised RuntimeError: boom\n")


def test_presets_are_listed():
    done = run("presets")
    assert done.returncode == 0
    assert re.search(r"^rrd-lrd-sac +RRD-L\(RD\)", done.stdout, re.MULTILINE)


def test_the_old_front_door_is_a_script_at_the_root():
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", "--alg=rrd", "--basis_alg=dqn", "--env=Asault"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "apportion: unknown environment 'Asault': did you mean Assault? Your own is named as module:Class\n"
    )


def test_there_is_no_pickle_in_the_repository():
    banned = re.compile(
        r"^\s*(import|from)\s+(c?pickle|cloudpickle|dill|joblib|shelve)\b|torch\.(load|save)\(|allow_pickle\s*=\s*True"
    )
    places = [
        ROOT / "train.py",
        *(p for d in ("src", "tests", "benchmarks", "examples") for p in (ROOT / d).rglob("*.py")),
    ]
    assert len(places) > 20
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in places
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if banned.search(line)
    ]
    assert not found
