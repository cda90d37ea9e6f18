"""Scoring text: evaluation protocols, temperature, neural cache and dynamic evaluation."""
