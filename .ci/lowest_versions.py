"""Prints the lowest versions that pyproject.toml promises, as lines of a requirements file.

pip install -r <(python .ci/lowest_versions.py)
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest_versions() -> list[str]:
    """`NAME[EXTRAS]==VERSION` of every dependency."""
    texts = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    return [_lowest(Requirement(text)) for text in texts]


def _lowest(requirement: Requirement) -> str:
    (version,) = [one.version for one in requirement.specifier if one.operator == ">="]
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}=={version}"


if __name__ == "__main__":
    print("\n".join(lowest_versions()))
