"""A network, its params and its data come back from their files, and damage is found."""

import pytest

from experiments.library.answer import Options

for package in ("onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(package)


def test_all_come_back(tmp_path):
    from experiments.questions import files

    found = files.main(Options(results=tmp_path), steps=5)
    assert found["data equal"] and found["params equal"]
    assert max(found["largest difference"].values()) < 1e-6
    assert "read_records: expected a whole record" in found["damage"]
    assert (tmp_path / "files" / "files.png").is_file()
