"""Print a pip constraint for the oldest release that each range of pyproject.toml admits."""

import re
import tomllib
from itertools import chain
from pathlib import Path

project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
    if bound := re.match(r"([\w-]+)[>=]=([\w.]+)", requirement):
        print(f"{bound[1]}=={bound[2]}")
