"""Text that people write, from the tokens that Wikitext makes of it."""

import pytest

from lm.generation.detokenize import detokenized


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("a well @-@ known band of 1 @,@ 200 men , 3 @.@ 5 % of all .", "a well-known band of 1,200 men, 3.5% of all."),
        ('he said " yes , I did " and " no " .', 'he said "yes, I did" and "no".'),
        (
            "the dog 's bone ( an old one ) didn 't last ; they 're sad",
            "the dog's bone (an old one) didn't last; they're sad",
        ),
        ("it cost $ 5 [ 2 ] : cheap !", "it cost $5 [2]: cheap!"),
        ("first line .\n\nit 's the second\n", "first line.\n\nit's the second\n"),
        ('one " alone', 'one " alone'),
        (" = Valkyria = ", " = Valkyria = "),
        ("", ""),
    ],
)
def test_tokens_become_the_text_that_was_written(tokens, text):
    assert detokenized(tokens) == text
