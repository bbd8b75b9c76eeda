"""Choose by time which tests `make test` leaves to `make test-thorough`.

    python -m pytest -n 2 -m "not slow" --times build/times.jsonl
    python -m tests.by_time build/times.jsonl --seconds 420

Of every test function the quickest case runs if it takes no more than 2.5 seconds, and further ones, the
quickest first, as far as the function's share of the time goes: the largest share with which all stay within
the seconds of CPU. The others are written to tests/take_long.txt.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import tyro

LIST = Path(__file__).parent / "take_long.txt"
ALWAYS = {  # what everyone meets first, and what no one may lose, however long the quickest case takes
    "README.md::README.md",
    "tests/test_value_and_grad.py::test_it_is_jax_value_and_grad_of_the_loss",
    "tests/train/test_killed.py::test_three_kills_lose_nothing",
}


@dataclass(frozen=True)
class Options:
    """Where the times are, and how much of them is had."""

    times: tyro.conf.Positional[Path]
    seconds: float = 420.0  # of CPU, in all
    quickest: float = 2.5  # seconds of CPU that a function's quickest case may take


def chosen(times: dict[str, float], share: float, quickest: float) -> set[str]:
    """Return the tests that run.

    Args:
        times: the seconds of each test.
        share: the seconds that the cases of one function may take together.
        quickest: the seconds that its quickest case may take.
    """
    functions = defaultdict(list)
    for name, seconds in times.items():
        functions[name.split("[")[0]].append((seconds, name))
    found = set()
    for function, cases in functions.items():
        spent = 0.0
        for i, (seconds, name) in enumerate(sorted(cases)):
            spent += seconds
            if spent > share and (i or spent > quickest and function not in ALWAYS):
                break
            found.add(name)
    return found


def left_out(times: dict[str, float], options: Options) -> tuple[list[str], float]:
    """Return the tests that are left out, and the share of a function."""
    low, high = 0.0, sum(times.values()) + 1
    while high - low > 0.001:
        share = (low + high) / 2
        taken = sum(times[name] for name in chosen(times, share, options.quickest))
        low, high = (share, high) if taken <= options.seconds else (low, share)
    return sorted(set(times) - chosen(times, low, options.quickest)), low


def main(options: Options) -> None:
    """Write the list, and say what it is."""
    lines = options.times.read_text().splitlines()
    times = dict(json.loads(line) for line in lines)
    out, share = left_out(times, options)
    LIST.write_text("\n".join(out) + "\n")
    whole = sum(times.values())
    taken = whole - sum(times[name] for name in out)
    print(f"{len(times) - len(out)} of {len(times)} tests run, in {taken:.0f} of {whole:.0f} s of CPU.")
    print(f"A function may take {share:.2f} s.")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
