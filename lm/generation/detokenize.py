"""Detokenisation of Wikitext."""

import re

RULES = (
    (r" @([-,.])@ ", r"\1"),  # hyphens and separators within a word or a number
    (r'" (.*?) "', r'"\1"'),
    (r" ([,.;:!?%)\]])", r"\1"),
    (r"([(\[$£€]) ", r"\1"),
    (r" (n't|'(?:s|t|re|ve|d|ll|m))\b", r"\1"),
)


def detokenized(text: str) -> str:
    """Undo Wikitext's tokenisation: ` @-@ `, ` @,@ `, spaces around punctuation, quotes and brackets, line by line."""
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return text
