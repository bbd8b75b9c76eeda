"""Findings that stand: a FAIL which was looked into, by the name of its row, with what is wrong there."""

KNOWN: dict[str, str] = {
    "numpyro.distributions.DoublyTruncatedPowerLaw.log_prob": "numpyro 0.22: its rule at the exponent -1",
    "distrax.utils.math.power_no_nan(0, 2)": "distrax 0.1.9: the slope of x^2 at 0 is not finite or not 0",
}
