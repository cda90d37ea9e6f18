"""Stored models: finding them, their formats, and the validation of untrusted files."""
