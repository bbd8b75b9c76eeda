"""Run gradient checkers over the corpus of planted mistakes, and print what each finds, misses and costs.

    python -m experiments.bench.checkers --tools fnn --seeds 5 --sizes 0 1 2
    python -m experiments.bench.checkers --tools fnn chex gradcheck --seeds 1 --sizes 0
    python -m experiments.bench.checkers --minutes 30
    python -m experiments.bench.checkers --tools fnn --seeds 1 --sizes 0 --part hidden --without statistics

All tools on all cases, 5 seeds and 3 sizes take hours; `--minutes` draws from these runs, without
replacement, until the time is up. `--without` leaves a search for names out, to show what it earns.
Every rate comes with its 95% Wilson interval. The other checkers are given every advantage: integer
arguments are closed over, an exception of any kind counts as a detection. torch's gradcheck sees a case
through a `torch.autograd.Function` that calls the JAX rules on float64 arrays; its slow mode runs where
inputs and outputs have at most --elements elements in all (the others are left out of its rows).
"""

# pyright: reportMissingImports=false

import argparse
import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import vjpcheck
from experiments.bench.rivals import TOOLS
from tests.check.corpus import RIGHT, WRONG
from vjpcheck import diagnose
from vjpcheck.diagnose import dials, multiples, repeats

SEARCHES: dict[str, list[tuple[Any, str, Callable[..., Any]]]] = {  # and what takes their place
    "statistics": [(dials, "statistic", lambda *_: None)],
    "single paths": [(diagnose, "partial_explanations", lambda *_: iter(()))],
    "values": [(multiples, "hypotheses", lambda *_: iter(()))],
    "steps": [(repeats.Repeats, name, lambda *_: None) for name in ("operand", "mirrored")],
}


@dataclass(frozen=True)
class Outcome:
    """What one checker said of one case: whether it complained, in how many characters, and the names it
    gave.
    """

    tool: str
    case: str
    wrong: bool
    hidden: bool
    size: int
    seed: int
    complained: bool
    seconds: float
    length: int
    names: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    verdict: str = ""


def run(job: tuple[str, int, int, int, int]) -> Outcome | None:
    """Run one tool on one case."""
    tool, number, size, seed, elements = job
    case = (*WRONG, *RIGHT)[number]
    args = case.make(jax.random.key(seed), size)
    count = sum(x.size for x in jax.tree.leaves((args, jax.eval_shape(case.primal, *args))))
    if tool == "gradcheck" and count > elements:
        return None
    start, complaint, report = time.perf_counter(), "", None
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            report = TOOLS[tool](case, args, seed)
        except vjpcheck.GradientError as error:
            report, complaint = error.report, str(error)
        except Exception as error:  # a checker's complaint, whatever it is
            complaint = str(error) or type(error).__name__
    seconds = time.perf_counter() - start
    names = tuple(m.name for m in report.mistakes) if isinstance(report, vjpcheck.Report) else ()
    verdict = str(report.verdict) if isinstance(report, vjpcheck.Report) else ""
    if number % 16 == 0:
        jax.clear_caches()
    return Outcome(
        tool, case.name, bool(case.names), case.hidden, size, seed, bool(complaint), seconds, len(complaint),
        names, case.names, verdict,
    )  # fmt: skip


def wilson(hits: int, n: int, z: float = 1.96) -> str:
    """Give a rate with its 95% interval (E. B. Wilson, JASA 22, 1927)."""
    if n == 0:
        return "-"
    p, d = hits / n, 1 + z * z / n
    middle, half = (p + z * z / (2 * n)) / d, z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / d
    return f"{100 * p:.1f}% [{100 * max(0, middle - half):.1f}, {100 * min(1, middle + half):.1f}]"


def row(label: str, found: Sequence[Outcome]) -> str:
    """Give one line of the table."""
    wrong, right = [o for o in found if o.wrong], [o for o in found if not o.wrong]
    named = label.startswith("fnn")
    first = sum(bool(o.names) and o.names[0] in o.accepted for o in wrong)
    stray = sum(any(n not in o.accepted for n in o.names) for o in wrong)
    seconds = np.median([o.seconds for o in found]) if found else float("nan")
    length = np.median([o.length for o in wrong if o.complained] or [0])
    cells = [
        label, f"{len(wrong)} + {len(right)}",
        wilson(sum(o.complained for o in wrong), len(wrong)),
        wilson(sum(o.complained for o in right), len(right)),
        wilson(first, len(wrong)) if named else "-", wilson(stray, len(wrong)) if named else "-",
        f"{seconds:.2f}", f"{length:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def table(outcomes: Sequence[Outcome]) -> str:
    """Give the whole table, the hidden third of the planted mistakes apart."""
    head = (
        "| checker | runs (wrong + right) | detected | false alarms | name first | wrong name | s | length |"
    )
    lines = [head, "|" + " --- |" * 8]
    for tool in dict.fromkeys(o.tool for o in outcomes):
        mine = [o for o in outcomes if o.tool == tool]
        lines.append(row(tool, mine))
        if tool.startswith("fnn"):
            lines.append(row(f"{tool}, visible part", [o for o in mine if o.wrong and not o.hidden]))
            lines.append(row(f"{tool}, hidden part", [o for o in mine if o.wrong and o.hidden]))
    return "\n".join(lines)


def details(outcomes: Sequence[Outcome]) -> str:
    """List what fnn missed, took for wrong, or gave another name (of the visible part alone)."""
    lines = []
    for o in outcomes:
        if o.tool.startswith("fnn") and o.complained != o.wrong:
            lines.append(f"{'missed' if o.wrong else 'false alarm'}: {o.case} (size {o.size}, seed {o.seed})")
        elif (
            o.tool.startswith("fnn")
            and o.wrong
            and not o.hidden
            and (not o.names or o.names[0] not in o.accepted)
        ):
            lines.append(
                f"named {list(o.names)}, not {list(o.accepted)}: {o.case} (size {o.size}, seed {o.seed})"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", choices=(0, 1, 2), default=[0, 1, 2])
    parser.add_argument("--part", choices=("all", "wrong", "right", "visible", "hidden"), default="all")
    parser.add_argument("--without", choices=SEARCHES, nargs="+", default=[])
    parser.add_argument("--every", type=int, default=1, help="take every n-th case only")
    parser.add_argument("--minutes", type=float, help="take the runs in random order until the time is up")
    parser.add_argument("--elements", type=int, default=600)
    parser.add_argument("--json", type=Path, help="add the outcomes to this file, one to a line")
    parser.add_argument("--read", type=Path, nargs="+", help="run nothing; print the table of these files")
    given = parser.parse_args()
    if given.read:
        lines = [json.loads(line) for path in given.read for line in path.read_text().splitlines()]
        outcomes = [Outcome(**line) for line in lines]
        print(table(outcomes))
        print(details(outcomes))
        return
    for name in given.without:
        for owner, attribute, instead in SEARCHES[name]:
            setattr(owner, attribute, instead)
    parts = {
        "all": lambda c: True, "wrong": lambda c: bool(c.names), "right": lambda c: not c.names,
        "visible": lambda c: c.names and not c.hidden, "hidden": lambda c: c.names and c.hidden,
    }  # fmt: skip
    chosen = [i for i, c in enumerate((*WRONG, *RIGHT)) if parts[given.part](c)][:: given.every]
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    jobs = [
        (t, i, s, k, given.elements) for t in given.tools for s in given.sizes for k in seeds for i in chosen
    ]
    if given.minutes:
        np.random.default_rng(given.first_seed).shuffle(jobs)
    end = time.monotonic() + 60 * (given.minutes or float("inf"))
    outcomes = []
    for job in jobs:
        if time.monotonic() > end:
            break
        outcome = run(job)
        if outcome is not None:
            outcomes.append(outcome)
            if given.json:
                with given.json.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
    print(table(outcomes))
    print(details(outcomes))


if __name__ == "__main__":
    main()
