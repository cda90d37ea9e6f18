"""A page in the browser to explore a model."""
