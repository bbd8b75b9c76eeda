"""`python -m fnn.check` is `python -m vjpcheck`, which says how it is called."""

from vjpcheck.__main__ import command

if __name__ == "__main__":
    raise SystemExit(command())
