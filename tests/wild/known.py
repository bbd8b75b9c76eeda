"""Findings that stand: a FAIL which was looked into, by the name of its row, with what is wrong there."""

KNOWN: dict[str, str] = {}
