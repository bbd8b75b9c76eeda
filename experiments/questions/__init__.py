"""The questions that fnn grew out of, each answered by a script."""
