"""Stored models: where they lie, their formats, and the checks of files that may come from a stranger."""
