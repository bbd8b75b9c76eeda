"""The table of CONTRIBUTING.md, which says for each kind of thing which files one touches, is true."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = re.findall(r"^\| (an? [^|]+) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)


def test_every_file_and_folder_of_the_table_is_there():
    assert len(TABLE) == 9
    for kind, files in TABLE:
        for place in re.findall(r"`((?:fnn|tests)/[^`]*)`", files):
            assert (ROOT / place).exists(), f"{kind}: {place}"


def test_a_layer_is_named_nowhere_else():
    """In the package: in its own file, where it is exported, and in the tables of writers and of what is
    stored.
    """
    allowed = {"__init__.py", "writers.py", "storing.py"}
    for folder, names in (("layers", ("RMSNorm", "Scale", "Bias")), ("compose", ("Reversible", "Skip"))):
        for name in names:
            found = {
                path.name
                for path in (ROOT / "fnn").rglob("*.py")
                if re.search(
                    rf"^(?:from|import) .*\b{name}\b|isinstance\(.*\b{name}\b", path.read_text(), re.M
                )
            }
            found -= {"nodes.py", "layers.py", "known.py", "regions.py"}  # of others' files, read back
            assert found <= allowed, f"{folder}.{name}: {found - allowed}"
