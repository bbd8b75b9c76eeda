"""Fewer bits cost accuracy of the gradient, not its direction on the average; and everything is written."""

import json

import pytest

from experiments.training import stored_digits


@pytest.mark.slow
def test_fewer_bits_keep_less_and_err_more(tmp_path, capsys):
    stored_digits.main(stored_digits.Options(epochs=2, hidden=(16,), seeds=1, results=tmp_path))
    found = json.loads((tmp_path / "stored-digits" / "figures.json").read_text())
    rows = [found[name] for name in stored_digits.CODECS]
    sizes, errors = ([row[key] for row in rows] for key in ("bytes", "relative error of the gradient"))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] == 0
    assert (tmp_path / "stored-digits" / "stored-digits.png").stat().st_size > 0
    assert "8 bits" in capsys.readouterr().out
