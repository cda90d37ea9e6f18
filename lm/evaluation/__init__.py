"""Scoring text: evaluation protocols, temperature, neural cache, dynamic evaluation, n-grams and mixtures."""
