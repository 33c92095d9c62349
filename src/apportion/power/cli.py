"""`apportion power solve|evaluate|query|compare|worlds|report|train|play`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from apportion.flags import run_verb

HELP = """\
usage: apportion power VERB [...]

What people can do: the robot policy that keeps humans able, exactly in worlds small enough to enumerate, else learned.

  solve WORLD                 the exact solution; --sweep xi=1,2,4 for several, --horizon none for no end
  evaluate WORLD --policy P   exact values of any policy: a run, uniform, do-nothing; and its share of what can be won
  compare WORLD               our objective beside others: empowerment, choice, doing nothing
  query WORLD --states FILE   exact values of described states; --compare holds them against those in FILE
  worlds                      pictures of the worlds that come with this package
  report RUN                  a page that steps through what happens
  train WORLD                 learn the policy of a world too large to solve; --preset lookup|quick|sampled
  play RUN                    one episode of a learned policy, in words; --film for a film with everybody's power

  apportion power VERB --help the flags of one verb

WORLD is a YAML file, the name of a world that comes with this package, or module:Class.
"""


def main(argv: Sequence[str]) -> int:
    """One command line after `apportion power`. Returns the exit code; raises UserError for slips."""
    return run_verb(argv, VERBS, "power", HELP)


def _verb(module: str, function: str = "main") -> Callable[[list[str]], int]:
    """Imported when it is needed: nothing heavy comes with --help."""
    return lambda argv: getattr(importlib.import_module(f"apportion.power.{module}"), function)(argv)


VERBS: dict[str, Callable[[list[str]], int]] = {
    "solve": _verb("solve_cli"),
    "evaluate": _verb("evaluate_cli"),
    "compare": _verb("compare_cli"),
    "query": _verb("query_cli"),
    "worlds": _verb("grid.show_cli"),
    "report": _verb("report_cli"),
    "train": _verb("train_cli"),
    "play": _verb("play_cli"),
}
