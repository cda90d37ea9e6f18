"""`--help`: what a script's file in conf/ says of it and of its keys, and the groups it has with their options."""

import re
import textwrap

from lm.config.composition import CONF
from lm.config.launch import command
from lm.config.options import nested_options

WIDTH = 100


def help_text(script: str) -> str:
    """The help of a script, as a template of Hydra's: purpose, examples, its keys with their comments, its groups."""
    comment, keys, defaults = read_config(script)
    examples = re.sub(r"python scripts/(\w+)\.py", lambda found: command(found[1]), comment)
    sections = [examples, "Keys (KEY=VALUE):", textwrap.indent(keys, "  ")]
    if groups := nested_options(script):
        paragraphs = [group_line(group, options, defaults.get(group)) for group, options in groups.items()]
        sections += [
            "Groups (GROUP=OPTION; the default in brackets):",
            "\n".join(paragraphs),
            f"{CONF}/GROUP/OPTION.yaml says what the keys of an option mean; --cfg job prints the config with the "
            "given options,\nand --cfg job --package GROUP a group's part of it.",
        ]
    sections += ["--hydra-help lists the flags, among them --multirun (-m) and --shell-completion."]
    return "\n\n".join(sections).replace("$", "$$") + "\n"


def read_config(script: str) -> tuple[str, str, dict[str, str]]:
    """The leading comment of conf/SCRIPT.yaml, the text of its own keys, and the default option of each group."""
    text = (CONF / f"{script}.yaml").read_text("utf-8")
    comment, _, rest = text.partition("\n\n")
    blocks = [block for block in rest.strip().split("\n\n") if not block.startswith(("defaults:", "hydra:"))]
    defaults = dict(re.findall(r"^  - (?:optional )?([\w/]+): (\S+)", rest, re.MULTILINE))
    return re.sub(r"^# ?", "", comment, flags=re.MULTILINE), "\n\n".join(blocks), defaults


def group_line(group: str, options: list[str], default: str | None) -> str:
    """A group with its options, folded."""
    chosen = f" [{default}]" if default in options else ""
    return textwrap.fill(
        f"{group}{chosen}: {', '.join(options)}", WIDTH, initial_indent="  ", subsequent_indent="      "
    )
