"""A script's own keys against their defaults: a switch is true or false, and few keys may be null."""

from omegaconf import DictConfig

from lm.errors import UserError

NULLABLE = ("seed",)  # though the default is a number
SWITCHES = ("tokenize",)  # though the default is null


def check_against_defaults(config: DictConfig, default: DictConfig) -> None:
    """Check the top-level keys of a script's config, which are not all arguments of something that is built.

    Args:
        config: composed with the overrides.
        default: composed without any.

    Raises:
        UserError: if a switch is not true or false, a key is null whose default is not, or a mapping is replaced.
    """
    given = dict(config.items_ex(resolve=False))
    for key, usual in default.items_ex(resolve=False):
        value = given.get(key)
        if value is None:
            if key in given and usual is not None and key not in NULLABLE:
                raise UserError(f"{key!s}=null given, but it needs a value; --help says more.")
        elif isinstance(usual, DictConfig) and not isinstance(value, DictConfig):
            raise UserError(f"{key!s}={value} given, but it has keys of its own: give {key!s}.KEY=VALUE.")
        elif (isinstance(usual, bool) or key in SWITCHES) and not isinstance(value, bool) and "${" not in str(value):
            raise UserError(f"{key!s}={value} given, but it must be true or false.")
