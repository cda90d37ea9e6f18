"""Print pip constraints for the oldest release that each range of pyproject.toml admits.

What constraints.txt pins stays pinned.
"""

import re
import tomllib
from itertools import chain
from pathlib import Path

CI = Path(__file__).parent
project = tomllib.loads((CI.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
pinned = (CI / "constraints.txt").read_text(encoding="utf-8")
print(pinned)
for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
    bound = re.match(r"([\w-]+)[>=]=([\w.]+)", requirement)
    if bound and f"\n{bound[1]}==" not in pinned:
        print(f"{bound[1]}=={bound[2]}")
