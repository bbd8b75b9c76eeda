"""Findings that stand: a FAIL that was looked into, by the name of its row, with its version."""

KNOWN: dict[str, str] = {
    "numpyro.distributions.DoublyTruncatedPowerLaw.log_prob": "numpyro 0.22",
    "distrax.utils.math.power_no_nan(0, 2)": "distrax 0.1.9",
    "jaxopt.FixedPointIteration": "jaxopt 0.8.5",  # its implicit derivative is solved to 4e-5 alone
}
