"""What `import fnn` takes beside `import jax`: seconds, modules, and which packages they are of.

    python -m experiments.bench.imports

Every import runs in a process of its own, in turn, `--rounds` times after one that is not counted (it writes
the compiled files). The seconds of fnn and optax are beyond those of JAX, which is loaded first.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter

import numpy as np

from experiments.library.timing import quartiles

FIRST = "import jax, jax.numpy"
IMPORTS = {"jax": ("", FIRST), "fnn": (FIRST, "import fnn"), "optax": (FIRST, "import optax")}


def measured(first: str, statement: str) -> tuple[float, list[str]]:
    """Run a statement after another in a new process: give its seconds and the modules that it loads."""
    code = (
        f"import sys, json, time\n{first}\nbefore = set(sys.modules)\n"
        f"start = time.perf_counter()\n{statement}\n"
        "print(json.dumps([time.perf_counter() - start, sorted(set(sys.modules) - before)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout)
    return seconds, modules


def main() -> None:
    """Print the seconds and the modules of each import, and the packages of fnn's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="processes for each import")
    parser.add_argument("--modules", action="store_true", help="list what fnn loads, module by module")
    options = parser.parse_args()
    seconds, modules = {name: [] for name in IMPORTS}, {}
    for round_ in range(options.rounds + 1):
        for name, (first, statement) in IMPORTS.items():
            taken, modules[name] = measured(first, statement)
            if round_:
                seconds[name].append(taken)
    print(f"{'import':8}{'modules':>9}   seconds: median (quartiles)")
    for name in IMPORTS:
        print(f"{name:8}{len(modules[name]):9}   {quartiles(np.array(seconds[name]))}")
    packages = Counter(name.split(".")[0] for name in modules["fnn"])
    print("\nfnn's: " + ", ".join(f"{name} {count}" for name, count in packages.most_common(8)))
    if options.modules:
        print("\n".join(modules["fnn"]))


if __name__ == "__main__":
    main()
