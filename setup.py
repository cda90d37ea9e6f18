"""What pyproject.toml cannot say: which packages a wheel has, with `scripts/` and `conf/` below `lm`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lm", "lm.*"]), "lm.scripts", "lm.conf"],
    package_dir={"lm.scripts": "scripts", "lm.conf": "conf"},
    package_data={"lm.conf": ["**/*.yaml"], "lm.plots": ["page/*"], "lm.explore": ["*.html", "*.js"]},
)
