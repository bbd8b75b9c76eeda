"""Check functions of other people's packages, each against finite differences of this table's own.

    python -m tests.wild
    python -m tests.wild --only tfp numpyro --seconds 30

Every family of rows (`of_*.py`) runs in a process of its own, which is begun again after the row that ended
it, or that went on for far too long. Printed are the rows that are not plainly right: raised (the checker
raised), wrong (PASS where differences disagree), false alarm (FAIL where they agree), found (FAIL, and they
disagree too), known (a finding of `KNOWN`), noted (PASS where differences disagree, and the report says that
the function stops its gradients), inconclusive, unsure (differences cannot tell), slow. The exit status is 1
where any raised, was wrong or a false alarm.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from tests.wild.known import KNOWN

HERE = Path(__file__).parent
FAMILIES = sorted(p.stem for p in HERE.glob("of_*.py"))
BAD = ("raised", "wrong", "false alarm", "crashed")
SLOW = 15.0  # seconds of the processor that a check may take without being called slow


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="rows whose names begin so, or families")
    parser.add_argument("--seconds", type=float, default=20.0, help="the budget of one check")
    parser.add_argument("--level", choices=("quick", "standard", "deep"), default="standard")
    parser.add_argument("--json", type=Path, help="add the outcomes to this file, one to a line")
    parser.add_argument("--batch", help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--reports", action="store_true", help="print the reports of what is bad")
    given = parser.parse_args()
    if given.batch:
        run_batch(given)
        return 0
    outcomes: list[dict[str, Any]] = []
    start = time.perf_counter()
    for family in FAMILIES:
        if given.only and family in given.only or not any(o in FAMILIES for o in given.only):
            for outcome in batches(family, given):
                outcomes.append(outcome)
                if given.json:
                    with given.json.open("a") as file:
                        file.write(json.dumps(outcome) + "\n")
                if outcome["kind"] != "right":
                    print(line(outcome), flush=True)
                    if given.reports and outcome.get("report") and outcome["kind"] in BAD:
                        print(outcome["report"], flush=True)
    print(summary(outcomes, time.perf_counter() - start))
    return int(any(o["kind"] in BAD for o in outcomes))


def batches(family: str, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run a family in a process, and go on behind the row that ended it."""
    skip = 0
    while True:
        command = [sys.executable, "-m", "tests.wild", "--batch", family, "--skip", str(skip)]
        command += [
            "--seconds",
            str(given.seconds),
            "--level",
            given.level,
            *(["--only", *given.only] if given.only else []),
        ]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines: Queue[str | None] = Queue()
        threading.Thread(target=_read, args=(child, lines), daemon=True).start()
        begun, done, ended = "", False, ""
        while True:
            try:
                text = lines.get(timeout=120 + 4 * given.seconds)
            except Empty:
                child.kill()
                text, ended = None, f"stopped: no answer in {120 + 4 * given.seconds:.0f} s"
            if text is None:
                break
            if not text.startswith("{"):
                continue
            said = json.loads(text)
            done = done or said.get("done", False)
            begun = said.get("begin", begun)
            skip = said.get("number", skip)
            if "kind" in said:
                begun = ""
                yield said
        child.wait()
        if done:
            return
        if not begun:
            yield {"name": family, "kind": "crashed", "why": "the family could not be loaded", "seconds": 0.0}
            return
        yield {
            "name": begun,
            "kind": "slow" if ended else "crashed",
            "why": ended or f"the process ended with {child.returncode}",
            "seconds": 0.0,
        }


def _read(child: subprocess.Popen[str], lines: "Queue[str | None]") -> None:
    assert child.stdout is not None
    for text in child.stdout:
        lines.put(text)
    lines.put(None)


def run_batch(given: argparse.Namespace) -> None:
    """Run the rows of one family, and print an outcome of each as a line of JSON."""
    warnings.simplefilter("ignore")
    del sys.argv[1:]  # some packages read it
    module, number = import_module(f"tests.wild.{given.batch}"), 0
    for make in module.FAMILIES if hasattr(module, "FAMILIES") else (module.rows,):
        iterator = make()
        while True:
            try:
                row = next(iterator)
            except StopIteration:
                break
            except Exception as error:  # a package that is not there, or another version of one
                say(name=f"{given.batch}.{make.__name__}", kind="left out", why=first(error), seconds=0.0)
                break
            number += 1
            if number <= given.skip:
                continue
            if given.only and not any(row.name.startswith(o) or o == given.batch for o in given.only):
                continue
            say(begin=row.name, number=number)
            say(**outcome(row, given.seconds, given.level))
    say(done=True)


def outcome(row: Any, seconds: float, level: Any) -> dict[str, Any]:
    """Check one row, and ask the differences who is right."""
    import jax

    from tests.wild.differences import RIGHT, UNSURE, WRONG, gradient_of, same
    from vjpcheck import Verdict, gradient

    try:
        _differentiate(row.function, row.args)
    except Exception as error:  # the row is not made for this version of the package, or has no derivative
        return {"name": row.name, "kind": "left out", "why": first(error), "seconds": 0.0}
    start = time.process_time()  # the machine may have others to serve
    try:
        report = gradient(row.function, *row.args, seconds=seconds, level=level, **row.options)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{first(error)} ({Path(where.filename).name}:{where.lineno})"
        return {"name": row.name, "kind": "raised", "why": why, "seconds": time.process_time() - start}
    took = time.process_time() - start
    probe = next((f.probe for f in report.findings if f.verdict is Verdict.FAIL), "")
    try:
        if "surrogate" in row.options:
            truth = same(row.function, row.options["surrogate"], row.args)
        else:
            truth = gradient_of(row.function, row.args, row.options.get("wrt"), probe)
    except Exception as error:
        truth = f"{UNSURE}: {first(error)}"
    verdict = str(report.verdict.name)
    kind = "right"
    why = report.mistake or next((f.text for f in report.findings), "")
    if verdict == "FAIL":
        kind = "known" if row.name in KNOWN else {RIGHT: "false alarm", WRONG: "found"}.get(truth, "unsure")
    elif verdict == "INCONCLUSIVE":
        kind = "inconclusive"
    elif truth != RIGHT:
        said = any(note.startswith("the function stops gradients") for note in report.notes)
        kind = "unsure" if truth != WRONG else "noted" if said else "wrong"
    if kind == "right" and took > SLOW:
        kind, why = "slow", "; ".join(n for n in report.notes if "not tried" in n)
    if took > 1:
        jax.clear_caches()
    return {
        "name": row.name, "kind": kind, "verdict": verdict, "truth": truth, "seconds": took,
        "why": (f"[{probe}] " if probe else "") + why, "report": str(report),
    }  # fmt: skip


def _differentiate(function: Any, args: Any) -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    def cotangent(y: Any) -> Any:
        floating = jnp.issubdtype(jnp.result_type(y), jnp.inexact)
        return y if floating else np.zeros(jnp.shape(y), jax.dtypes.float0)

    ys, pull = jax.vjp(function, *args)
    jax.eval_shape(lambda: pull(jax.tree.map(cotangent, ys)))


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def first(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:200]


def line(o: dict[str, Any]) -> str:
    said = f"{o.get('verdict', '')}/{o.get('truth', '')}".strip("/")
    return f"{o['kind']:12} {o['name']:48} {said:22} {o['seconds']:5.1f} s  {o['why'][:150]}"


def summary(outcomes: list[dict[str, Any]], seconds: float) -> str:
    """The counts: functions and packages checked, and how many of each kind."""
    checked = [o for o in outcomes if o["kind"] != "left out"]
    packages = {o["name"].split(".")[0] for o in checked}
    kinds = Counter(o["kind"] for o in checked)
    counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    slowest = max((o["seconds"] for o in checked), default=0.0)
    bad = sum(kinds[k] for k in BAD)
    left_out = len(outcomes) - len(checked)
    lines = [
        f"{len(checked)} functions of {len(packages)} packages: {counts}; {left_out} left out",
        f"raised {kinds['raised']}, wrong {kinds['wrong']}, false alarms {kinds['false alarm']}, "
        f"crashed {kinds['crashed']}; the slowest took {slowest:.0f} s, all {seconds / 60:.1f} min",
    ]
    return "\n".join(lines if bad else [*lines, "none raised, no false alarm"])


if __name__ == "__main__":
    raise SystemExit(main())
