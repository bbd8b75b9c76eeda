"""The catalogue of the mistakes that `vjpcheck` names: docs/mistakes.md.

    python -m experiments.site.mistakes

The names and what they mean are those of `vjpcheck.MISTAKES`. For each the corpus of wrong backward passes
(`tests/check/corpus/`) is searched for the shortest that the checker, asked here and now, calls by this name
first; the page shows that pass and what the checker says. A name without such a pass is listed at the end.
"""

import argparse
import inspect
import textwrap
from collections import defaultdict
from pathlib import Path

import jax

import vjpcheck
from tests.check.corpus import WRONG, Case

PAGE = """# Mistakes by name

`vjpcheck` names {count} mistakes. A name is a claim: the gradient that this mistake would lead to is the one
that was given, here and on fresh inputs. Below is an example of {shown} of them, from the corpus of wrong
backward passes that the checker is measured on, with what the checker says of it. The page is made by
`python -m experiments.site.mistakes`.
"""


def source(case: Case) -> str:
    """Give the source of a case's forward function and of its backward pass."""
    return "\n\n\n".join(textwrap.dedent(inspect.getsource(f)).strip() for f in (case.primal, case.backward))


def example(name: str, cases: list[Case], tries: int) -> tuple[Case, str] | None:
    """Give the shortest case that the checker calls so first, and what it says."""
    for case in sorted(cases, key=lambda c: (c.names[0] != name, len(source(c))))[:tries]:
        report = vjpcheck.gradient(case.function, *case.make(jax.random.key(1), 0), key=1)
        said = next((m for m in report.mistakes[:1] if m.name == name), None)
        if said is not None:
            return case, said.words
    return None


def main() -> None:
    """Ask the checker, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", type=Path, default=Path("docs/mistakes.md"), help="where it is written")
    parser.add_argument("--tries", type=int, default=3, help="cases that are tried for each name")
    options = parser.parse_args()
    by_name: dict[str, list[Case]] = defaultdict(list)
    for case in WRONG:
        for name in case.names:
            by_name[name].append(case)
    names, parts, left = sorted(vjpcheck.MISTAKES), [], []
    for name in names:
        found = example(name, by_name[name], options.tries)
        if found is None:
            left.append(name)
            continue
        case, words = found
        meaning = vjpcheck.MISTAKES[name]
        parts.append(f"## {name}\n\n{meaning}\n\n*{case.kind}*: {words}.\n\n```python\n{source(case)}\n```\n")
        print(f"{name}: {case.name}", flush=True)
    text = PAGE.format(count=len(names), shown=len(parts)) + "\n" + "\n".join(parts)
    if left:
        text += "\n## Names without an example here\n\n"
        text += "".join(f"- *{name}*: {vjpcheck.MISTAKES[name]}\n" for name in left)
    options.page.write_text(text)
    print(f"written: {options.page}: {len(parts)} of {len(names)} names with an example")


if __name__ == "__main__":
    main()
