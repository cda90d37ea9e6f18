# The commands that one types; `just` lists them.

_default:
    @just --list

# install for development, with the versions that the checks use
install:
    PIP_CONSTRAINT=.ci/constraints.txt pip install -e '.[dev]'

# lint, types and tests
check:
    ruff check .
    ruff format --check .
    mypy
    pytest

# the slow tests
slow:
    pytest -m slow

# a first model, then a text of it
quickstart:
    python scripts/train.py experiment=quickstart
    python scripts/generate.py ckpt=best

# what CI does, in an environment of its own
ci:
    .ci/run
