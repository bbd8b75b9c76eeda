"""The digits experiment, at a budget of seconds: what it learns, writes, and says when it cannot go on."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import fnn
from experiments.library.comparison import gradient_errors
from experiments.library.data import from_scikit_learn
from experiments.library.options import OptionError, Options, check
from experiments.library.results import ResultsError, writable, write
from experiments.training import digits

ROOT = Path(digits.__file__).parent.parent.parent
FILES = ("figures.json", "learning-curve.png", "confusion-matrix.png", "weights.png")
TINY = Options(hidden=(8,), epochs=1, batch=128)


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a person does."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "experiments.training.digits", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.thorough
def test_learns_and_writes_its_results_and_would_do_so_again(tmp_path):
    done = script("--epochs", "4", "--hidden", "128", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "1,437 images of 8 x 8 pixels to learn from, 360 held out." in done.stdout
    assert done.stdout.count("first.kernel") == 2  # the gradients, before and after
    assert "360 images held out, those whose own gradients are the largest" in done.stdout
    folder = tmp_path / "digits"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    for name in FILES[1:]:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    found = json.loads((folder / "figures.json").read_text())
    assert found["accuracy"]["held out"] > 0.85
    assert f"{found['accuracy']['held out']:.2%} of the held-out images are read right." in done.stdout
    assert np.trace(found["confusion"]) / np.sum(found["confusion"]) == pytest.approx(
        found["accuracy"]["held out"]
    )
    assert len(found["loss of each epoch"]) == found["options"]["epochs"] == 4
    assert found["versions"].keys() >= {"python", "fnn", "jax"} and found["seconds"] > 0 and found["device"]
    for errors in found["gradient errors"].values():
        assert set(errors) == {
            "first.bias",
            "first.kernel",
            "output.bias",
            "output.kernel",
        }
        assert all(
            error["fnn, float64"] < 1e-12 and error["fnn, float32"] < 1e-4 for error in errors.values()
        )

    digits.main(Options(epochs=4, hidden=(128,), results=tmp_path))
    again = json.loads((folder / "figures.json").read_text())
    same = "accuracy", "gradient errors", "loss of each epoch", "confusion"
    assert {name: again[name] for name in same} == {name: found[name] for name in same}


def test_comparison_sees_a_wrong_gradient():
    x = np.ones((3, 2), np.float32)
    params = {"kernel": np.full((2,), 0.5, np.float32)}
    right = gradient_errors(
        lambda p, x: {"kernel": x.sum(0)}, lambda p, x: (x @ p["kernel"]).sum(), params, x
    )
    wrong = gradient_errors(
        lambda p, x: {"kernel": 1.5 * x.sum(0)}, lambda p, x: (x @ p["kernel"]).sum(), params, x
    )
    assert right == {"kernel": {"fnn, float64": 0.0, "fnn, float32": 0.0, "jax.grad, float32": 0.0}}
    assert wrong["kernel"]["fnn, float64"] == pytest.approx(0.5)


def test_rising_loss_stops_at_its_step_and_keeps_earlier_results(tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "figures.json").write_text("earlier")
    options = replace(TINY, learning_rate=1e30, results=tmp_path)
    with pytest.raises(
        digits.NotFiniteError, match=r"at step \d+ \(epoch 1, --learning-rate 1e\+30\): try a smaller"
    ):
        digits.main(options)
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["figures.json"]
    assert (tmp_path / "digits" / "figures.json").read_text() == "earlier"


@pytest.mark.parametrize(("losses", "epoch", "named"), [
    ([np.nan, 1, 1, np.inf], 0, "the loss is nan at step 1 (epoch 1, "),
    ([1, 1, np.inf, np.nan], 5, "the loss is inf at step 23 (epoch 6, "),
    ([1, 1, 1, -np.inf], 999, "the loss is -inf at step 4,000 (epoch 1000, "),
])  # fmt: skip
def test_first_loss_that_is_not_finite_is_named(losses, epoch, named):
    with pytest.raises(digits.NotFiniteError, match=re.escape(named)):
        digits.check_finite(np.array(losses), epoch, Options())
    digits.check_finite(np.ones(4), epoch, Options())


def test_one_bad_image_stops_at_the_step_that_sees_it(tmp_path, monkeypatch):
    clean = from_scikit_learn(0)
    few = clean._replace(x=clean.x[:40].copy(), t=clean.t[:40])
    few.x[:] = np.nan
    monkeypatch.setattr(digits, "from_scikit_learn", lambda seed: few)
    with pytest.raises(digits.NotFiniteError, match=r"the loss is nan at step 1 \(epoch 1"):
        digits.main(replace(TINY, batch=20, results=tmp_path))


def test_script_ends_with_a_message_and_not_with_a_traceback(tmp_path):
    with pytest.raises(
        SystemExit, match=r"digits\.py: the loss is .* at step \d+ .* No results were written\.$"
    ):
        digits.run(["--learning-rate", "1e30", "--hidden", "8", "--results", str(tmp_path)])
    with pytest.raises(
        SystemExit, match=r"digits\.py: nowhere: expected a folder with MNIST's four idx files"
    ):
        digits.run(["--data", "mnist", "--data-dir", "nowhere", "--results", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        digits.run(["--data", "letters"])


def test_help_tells_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        digits.run(["--help"])
    said = capsys.readouterr().out
    for field in fields(Options):
        assert f"--{field.name.replace('_', '-')}" in said
        if isinstance(field.default, (int, float)):
            assert f"(default: {field.default}" in said


@pytest.mark.parametrize(("change", "said"), [
    ({"data": "mnist"}, "--data-dir: expected the folder with MNIST's four idx files, got None"),
    ({"epochs": 0}, "--epochs: expected 1 or more, got 0"),
    ({"batch": 0}, "--batch: expected 1 or more, got 0"),
    ({"shift": 1.5}, "--shift: expected a part from 0 to 1, got 1.5"),
    ({"learning_rate": 0.0}, "--learning-rate: expected a positive number, got 0.0"),
    ({"learning_rate": float("nan")}, "--learning-rate: expected a positive number, got nan"),
    ({"weight_decay": -1.0}, "--weight-decay: expected 0 or more, got -1.0"),
    ({"seed": -1}, "--seed: expected a whole number from 0 to 4294967295, got -1"),
])  # fmt: skip
def test_options_that_do_not_fit(change, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        check(Options(**change))


def test_options_that_only_the_data_can_judge(tmp_path):
    with pytest.raises(OptionError, match="--batch: expected at most the 1,437 images, got 2,000"):
        digits.main(replace(TINY, batch=2000, results=tmp_path))
    with pytest.raises(fnn.InputError, match="mlp: expected each size"):
        digits.main(replace(TINY, hidden=(0,), results=tmp_path))
    with pytest.raises(fnn.InputError, match="Dropout: expected 0 <= rate < 1, got 1.0"):
        digits.main(replace(TINY, dropout=1.0, results=tmp_path))


def test_results_go_to_a_folder_or_nowhere(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"file/digits: expected a folder .* try `--results DIR`"):
        writable(tmp_path / "file" / "digits")
    assert write(tmp_path, {"a": b"1", "bias": b"2"}) == ""
    assert write(tmp_path, {"a": b"3"}) == " (in place of the earlier ones)"

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, {"a": b"4"})
    assert (tmp_path / "a").read_bytes() == b"3" and not list(tmp_path.glob(".writing*"))


@pytest.mark.slow
def test_reads_97_of_100_held_out_digits(tmp_path):
    assert script("--results", str(tmp_path)).returncode == 0
    assert json.loads((tmp_path / "digits" / "figures.json").read_text())["accuracy"]["held out"] >= 0.97


@pytest.mark.slow
@pytest.mark.skipif("MNIST" not in os.environ, reason="MNIST=DIR tells where MNIST's idx files lie")
def test_reads_983_of_1000_held_out_images_of_mnist(tmp_path):
    done = script("--data", "mnist", "--data-dir", os.environ["MNIST"], "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "mnist" / "figures.json").read_text())["accuracy"]["held out"] >= 0.983
