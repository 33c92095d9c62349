"""The command line: one thin function per verb. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apportion.ending import ended, guarded, with_way_back

if TYPE_CHECKING:
    from apportion.flags import TrainRequest
    from apportion.types import Episode, Spec

HELP = """\
usage: apportion VERB [...]

Per-step rewards where the environment gives none.

  train [PRESET] --env ENV   train an agent: --alg rrd|rd|ircr|uniform|none, or --reward RUN
  fit [PRESET] --data PATH   learn a reward from robot demonstrations: --method rrd|rd|progress|success
  sweep FILE                 many runs from one file: flags to vary, seeds; here or on a Ray cluster
  resume RUN                 go on with a run that was stopped, exactly where it was
  evaluate RUN               play episodes with a run's policy and audit its rewards
  report RUN...              write an HTML page: learning curves and credit pictures, or demonstrations to play
  check ENV                  tell whether an environment will work, and what to change
  demo                       Reacher-v5 from episodic returns alone, and its report (about 5 minutes on 2 cores)
  presets                    list the named settings
  data VERB PATH             robot demonstrations: inspect, doctor, convert, features
  audit RUN                  judge a fitted reward on episodes that it did not learn from
  label --model RUN ...      write a fitted reward into a copy of the data, in its own format
  power VERB WORLD           human power: solve, evaluate, compare, query, worlds, report, train, play

  apportion VERB --help      the flags of one verb
  apportion --version

examples:
  apportion train rrd-sac --env HalfCheetah-v5
  apportion train --env Hopper-v5 --alg rrd --basis-alg td3 --rrd-bias-correction --seeds 0,1,2
  apportion report runs/HalfCheetah-v5-rrd-sac-0
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line. Returns the exit code: 0 done, 1 the answer is no, 2 a slip of the user's, 130 stopped."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"apportion {version('apportion')}")
        return 0
    if words[0] not in VERBS:
        return _unknown(words[0])
    sys.path.append(str(Path.cwd()))  # module:Class is the user's own file, most often in this directory
    return guarded(lambda: VERBS[words[0]](words[1:]))


def _unknown(word: str) -> int:
    import difflib

    near = difflib.get_close_matches(word, [*VERBS, "--help", "--version"], 1, 0.5)
    what = "flag" if word.startswith("-") else "verb"
    hint = f"; did you mean {near[0]}?" if near else ""
    print(f"apportion: unknown {what} {word!r}{hint} (see apportion --help)", file=sys.stderr)
    return 2


def _train(argv: list[str]) -> int:
    from apportion.flags import parse_train

    request = parse_train(argv)
    if request.options.seeds:
        return _train_seeds(request)
    from apportion.train.online import train_online

    run = Path(request.options.runs_dir) / request.name
    with_way_back(
        run, lambda: train_online(request.config, run, log=request.options.sinks, command=["apportion", "train", *argv])
    )
    return ended(run)


def _train_seeds(request: TrainRequest) -> int:
    from apportion.flags import multi_name, with_seed
    from apportion.run.rundir import RunDir
    from apportion.train.preflight import preflight
    from apportion.train.seeds import Job, at_once, run_all, write_plan
    from apportion.types import UserError

    preflight(request.config, request.options.sinks)  # one line for a slip, not one per seed
    root = Path(request.options.runs_dir) / multi_name(request)
    seeds = request.options.seed_list
    for run in (RunDir(root / f"seed_{seed}") for seed in seeds):
        if not run.path.exists():
            continue
        if not run.came_to_nothing():
            raise UserError(f"{run.path} exists already: apportion resume {root}, or another --name")
        with run.lock():  # a UserError if it is at work
            pass
    jobs = [Job(f"seed {seed}", ("train", *with_seed(request, seed)), root / f"seed_{seed}") for seed in seeds]
    write_plan(root, jobs)
    threads = request.config.threads
    count = at_once(request.options.jobs, threads)
    return _finish(root, with_way_back(root, lambda: run_all(jobs, count, threads, request.config.steps)))


def _finish(root: Path, codes: list[int]) -> int:
    """One report over all seeds that got anywhere; the exit code says whether all did."""
    from apportion.train.seeds import exit_code

    if any(codes):
        print(f"{sum(1 for code in codes if code)} of {len(codes)} failed", file=sys.stderr)
    if not all(codes):
        from apportion.report.html import write_report

        print(f"report: {write_report([root], root / 'report.html')}")
    return exit_code(codes)


def _resume(argv: list[str]) -> int:
    from apportion.flags import Parser

    parser = Parser("apportion resume", "Go on with a run from its newest complete checkpoint.")
    parser.add_argument("run", type=Path, help="run directory, or one over several seeds")
    parser.add_argument("--log", default="", help="also log to tensorboard, wandb, trackio")
    parser.add_argument("--jobs", type=int, default=0, help="of several seeds, so many at once")
    args = parser.parse(argv)
    several = (args.run / "seeds.json").exists() or any(args.run.glob("seed_*/config.json"))
    if several and not (args.run / "config.json").exists():
        return _resume_seeds(args.run, args.jobs, args.log)
    from apportion.run.rundir import RunDir

    if (args.run / "sweep.json").exists() and any(args.run.glob("*/config.json")):
        from apportion.types import UserError

        raise UserError(f"{args.run} is a sweep: the command that began it, apportion sweep FILE, goes on with it")
    run = RunDir.open(args.run)
    run.info()  # one line now if run.json is gone, not at the end
    kind = run.config().get("kind")
    if kind == "FitConfig":
        from apportion.train.offline import resume
    elif kind == "Phase2Config":
        from apportion.train.power import resume
    else:
        from apportion.train.online import resume
    sinks = tuple(name for name in args.log.split(",") if name)
    with_way_back(args.run, lambda: resume(args.run, log=sinks))
    return ended(args.run)


def _resume_seeds(root: Path, jobs: int, log: str) -> int:
    """Go on with every seed that was started, and start those that were not."""
    from apportion.config import OnlineConfig, from_json
    from apportion.flags import parse_train
    from apportion.run.rundir import RunDir
    from apportion.train.seeds import Job, at_once, read_plan, run_all

    log_flag = ("--log", log) if log else ()
    plan, todo, config = read_plan(root), list[Job](), None
    started = {path.parent.name for path in root.glob("seed_*/config.json")}
    for name in sorted(started | plan.keys(), key=lambda name: (len(name), name)):
        run = root / name
        if name in started:
            words = ("resume", str(run), *log_flag)
            config = from_json(OnlineConfig, RunDir(run).config())
        else:  # the directory may have moved since
            place = ("--runs-dir", str(root.resolve().parent), "--name", f"{root.resolve().name}/{name}")
            words = (*plan[name], *place, *log_flag)
            config = config or parse_train(words[1:]).config
        todo.append(Job(name.replace("_", " "), words, run))
    assert config is not None  # there is at least one seed, or we would not be here
    threads, steps = config.threads, config.steps
    return _finish(root, with_way_back(root, lambda: run_all(todo, at_once(jobs, threads), threads, steps)))


def _evaluate(argv: list[str]) -> int:
    from apportion.flags import Parser

    parser = Parser("apportion evaluate", "Play episodes with a run's policy, without exploration noise.")
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--episodes", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the environment's resets (default: 0)")
    parser.add_argument("--video", type=Path, nargs="?", const=Path(), help="film one episode: FILE, or RUN/video.mp4")
    parser.add_argument("--checkpoint", type=Path, help="its directory or name (default: the newest complete one)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse(argv)
    from apportion.types import UserError

    if args.episodes < 1:
        raise UserError(f"--episodes {args.episodes}: at least 1 is needed")
    if not (args.run / "config.json").exists() and any(args.run.glob("seed_*/config.json")):
        raise UserError(f"{args.run} holds several seeds: name one, for example {args.run / 'seed_0'}")
    from apportion.run.rundir import RunDir
    from apportion.train.evaluate import evaluate_run, film_run

    run = RunDir.open(args.run)
    kind = run.config().get("kind")
    if kind == "FitConfig":
        raise UserError(
            f"{args.run} is a run of apportion fit, which has no policy to play: apportion audit {args.run}"
        )
    if kind == "Phase2Config":
        raise UserError(
            f"{args.run} is a run of apportion power train: apportion power play {args.run}, or exactly "
            f"apportion power evaluate {run.config().get('world')} --policy {args.run}"
        )
    checkpoint = run.checkpoint(args.checkpoint)
    result = evaluate_run(args.run, episodes=args.episodes, seed=args.seed, checkpoint=checkpoint)
    _show_evaluation(result, as_json=args.json)
    if args.video is not None:
        video = args.run / "video.mp4" if args.video == Path() else args.video
        sys.stdout.flush()
        film_run(args.run, video, seed=args.seed, checkpoint=checkpoint)
        if not args.json:
            print(f"video    {video}")
    return 0


def _show_evaluation(result: dict, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(result))
        return
    from statistics import fmean, pstdev

    returns, lengths = result["returns"], result["lengths"]
    print(f"episodes {len(returns)}, of {fmean(lengths):.0f} steps in the mean")
    print(f"return   {fmean(returns):.2f} +- {pstdev(returns):.2f} (from {min(returns):.2f} to {max(returns):.2f})")
    for name, value in (result.get("audit") or {}).items():
        why = "all returns are alike" if name == "r2_return" else "in no episode do true and learned rewards both vary"
        print(f"audit    {name} {f'{value:.3f}' if isinstance(value, int | float) else f'not defined: {why}'}")


def _report(argv: list[str]) -> int:
    from apportion import use_cli
    from apportion.flags import Parser
    from apportion.report.runs import one_kind

    kind = one_kind(argv)
    if kind == "FitConfig":
        return use_cli.report(argv)
    if kind == "Phase2Config" or any((Path(word) / "solution.json").exists() for word in argv):
        return importlib.import_module("apportion.power.report_cli").main(argv)
    about = "Write one self-contained HTML page, and PNGs beside it, about runs. For a run of apportion fit there are "
    parser = Parser("apportion report", about + "more flags: apportion report RUN --help.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories, or ones over several seeds")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the first RUN)")
    args = parser.parse(argv)
    from apportion.report.html import write_report

    print(f"report: {write_report(args.runs, args.out or args.runs[0] / 'report.html')}")
    return 0


def _check(argv: list[str]) -> int:
    from apportion.flags import Parser

    parser = Parser("apportion check", "Tell whether an environment will work here: exit code 0 yes, 1 no.")
    parser.add_argument("env", help="Gymnasium id, or module:Class")
    args = parser.parse(argv)
    from apportion.envs.check import check, render

    findings = check(args.env, probe=_probe)
    print(render(findings))
    return 1 if any(finding.ok is False for finding in findings) else 0


def _probe(spec: Spec, episode: Episode) -> None:
    from apportion.train.online import probe_update

    probe_update(spec, episode)


def _demo(argv: list[str]) -> int:
    return importlib.import_module("apportion.demo").main(argv)


def _presets(argv: list[str]) -> int:
    from apportion.flags import Parser

    Parser("apportion presets", "List the named settings of apportion train, fit and power train.").parse(argv)
    from apportion.presets import FIT_PRESETS, PRESETS

    for name, preset in PRESETS.items():
        print(f"{name:<20} {preset.about}")
    print("\nof apportion fit:")
    for name, preset in FIT_PRESETS.items():
        print(f"{name:<20} {preset.about}")
    from apportion.power.learn.presets import PRESETS as POWER_PRESETS

    print("\nof apportion power train WORLD, by --preset:")
    for name, preset in POWER_PRESETS.items():
        print(f"{name:<20} {preset.about}")
    return 0


def _fit(argv: list[str]) -> int:
    return importlib.import_module("apportion.fit_cli").main(argv)


def _sweep(argv: list[str]) -> int:
    return importlib.import_module("apportion.sweep_cli").main(argv)


def _data(argv: list[str]) -> int:
    return importlib.import_module("apportion.data.cli").main(argv)


def _power(argv: list[str]) -> int:
    return importlib.import_module("apportion.power.cli").main(argv)


def _label(argv: list[str]) -> int:
    return importlib.import_module("apportion.use_cli").label(argv)


def _audit(argv: list[str]) -> int:
    return importlib.import_module("apportion.use_cli").audit(argv)


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "fit": _fit,
    "sweep": _sweep,
    "resume": _resume,
    "evaluate": _evaluate,
    "report": _report,
    "check": _check,
    "demo": _demo,
    "presets": _presets,
    "data": _data,
    "label": _label,
    "power": _power,
    "audit": _audit,
}
