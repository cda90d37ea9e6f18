"""Readable text from Wikitext's tokens."""

import re

RULES = (
    (r" @([-,.])@ ", r"\1"),  # how Wikitext writes them within a word or a number
    (r'" (.*?) "', r'"\1"'),
    (r" ([,.;:!?%)\]])", r"\1"),
    (r"([(\[$£€]) ", r"\1"),
    (r" (n't|'(?:s|t|re|ve|d|ll|m))\b", r"\1"),
)


def detokenized(text: str) -> str:
    """Join what Wikitext has split: ` @-@ `, ` @,@ `, spaces around punctuation, quotes and brackets, line by line."""
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    for pattern, replacement in RULES:
        line = re.sub(pattern, replacement, line)
    return line
