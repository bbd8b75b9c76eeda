"""Scripts that a person runs: `python -m experiments.questions.loops`; fnn never imports them."""
