"""Run every mutant past our tests and count.

python -m tests.mutation
python -m tests.mutation normal.d_gelu Dense.backward
"""

import argparse
import contextlib
import io
import time

import jax

import tests.conftest as strict  # float64, two devices, no silent promotion
from fnn.compose import ordering
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.targets import targets


def main() -> int:
    """Print a line for each target, and what survives; the exit status is 1 where a live mutant does."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="the targets to run (all)")
    given = parser.parse_args()
    assert strict
    ordering.SMALL = -1  # as for every test
    total, caught, equivalent, live = 0, 0, 0, 0
    for target in targets():
        if given.names and repr(target) not in given.names:
            continue
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            left = target.survivors(target.mutants())
        reasons = {name: EQUIVALENT[name] for name in left if name in EQUIVALENT}
        n = len(target.mutants())
        total, caught = total + n, caught + n - len(left)
        equivalent, live = equivalent + len(reasons), live + len(left) - len(reasons)
        print(f"{target!r}: {n - len(left)} of {n} caught, {len(reasons)} equivalent", end="")
        print(f" ({time.perf_counter() - start:.0f} s)", flush=True)
        for name in left:
            print(f"  {name}: {EQUIVALENT.get(name, 'SURVIVES')}", flush=True)
        jax.clear_caches()
    print(f"{total} mutants: {caught} caught, {equivalent} equivalent, {live} survive")
    return int(live > 0)


if __name__ == "__main__":
    raise SystemExit(main())
