"""Entry points: `python scripts/train.py` in a checkout, `lm-train` where the package is installed."""
