"""The same weights, batches and optimizer give the same losses, whoever computes them."""

import json

import pytest

from experiments.library.answer import Options
from experiments.questions import peers


def test_losses_coincide_with_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    found = peers.main(Options(results=tmp_path), steps=30, batch=16, hidden=(12,))
    assert found["largest difference"]["scikit-learn"] < 1e-12
    assert found["losses"]["fnn"][-1] < found["losses"]["fnn"][0]
    assert json.loads((tmp_path / "peers" / "figures.json").read_text())["losses"] == found["losses"]


@pytest.mark.filterwarnings("default")
def test_losses_coincide_with_torch(tmp_path):
    pytest.importorskip("torch")
    found = peers.main(Options(results=tmp_path), steps=10, batch=8, hidden=(6, 5))
    assert set(found["largest difference"]) == {"scikit-learn", "PyTorch"}
    assert max(found["largest difference"].values()) < 1e-12
