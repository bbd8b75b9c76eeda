"""Take the pictures of the questions' last results into the documentation.

make experiments && python -m experiments.site.questions
"""

import argparse
import shutil
from pathlib import Path


def main() -> None:
    """Copy each question's SVG."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="where they are")
    parser.add_argument("--folder", type=Path, default=Path("docs/pictures"), help="where they go")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for question in sorted(Path(__file__).parents[1].glob("questions/[a-z]*.py")):
        picture = options.results / question.stem / f"{question.stem}.svg"
        if picture.exists():
            shutil.copyfile(picture, options.folder / picture.name)
        told = (
            "copied"
            if picture.exists()
            else f"no picture: try `python -m experiments.questions.{question.stem}`"
        )
        print(f"{question.stem}: {told}")


if __name__ == "__main__":
    main()
