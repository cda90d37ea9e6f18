"""Free text on the command line, and mistakes in one line."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, InstantiationException

from lm.cli import one_line_errors, quote_free_text
from lm.errors import UserError

TEXTS = [
    "It 's (a, b) = {c} [d]",
    'say "hi"',
    "back\\slash",
    "ends in \\",
    'a \\" b',
    "",
    "5",
    "null",
    "a: b # $x",
    "é“”",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_arrives_as_it_was_typed(text):
    [argument] = quote_free_text([f"prompt={text}"], ["prompt"])
    [override] = OverridesParser.create().parse_overrides([argument])
    assert override.value() == text


def test_other_arguments_and_text_already_quoted_are_left_alone():
    arguments = ["words=5", "--cfg", 'prompt="a, b"', "prompt='c'", "-m"]
    assert quote_free_text(arguments, ["prompt"]) == arguments


def raising(error):
    @one_line_errors
    def main(config):
        raise error

    return main


def test_a_users_mistake_becomes_one_line():
    with pytest.raises(CompactHydraException, match=r"^two words$"):
        raising(UserError("two\n words"))(None)


def test_a_users_mistake_inside_instantiate_becomes_one_line():
    wrapped = InstantiationException("Error in call to target ...")
    wrapped.__cause__ = UserError("num_heads=3")
    with pytest.raises(CompactHydraException, match=r"^num_heads=3$"):
        raising(wrapped)(None)


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ValueError, match="ours"):
        raising(ValueError("ours"))(None)
