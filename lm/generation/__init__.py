"""Generating text: incremental decoding, logits processors, sampling and beam search."""
