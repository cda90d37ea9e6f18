"""The `main` of every script: signals, command line, Hydra, and one line for a mistake."""

import gc
import signal
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from lm.config.signals import handle_signals

if TYPE_CHECKING:
    from omegaconf import DictConfig


def script_main(
    name: str, function: "Callable[[DictConfig], Any]", free_text: Collection[str] = ()
) -> Callable[[], None]:
    """A `main` without arguments, for a script and for its console entry point.

    Slow imports, such as Hydra, follow the installation of signal handlers. The garbage collector is off until
    `function` calls `imported`: imports leave nothing to collect, and looking for it takes a fifth of their time.

    Args:
        name: of the script and of its file in conf/.
        function: runs the script on its config; a sweeper minimises its return value.
        free_text: the keys whose values are taken as typed.
    """

    def main() -> None:
        handle_signals()
        gc.disable()
        import hydra

        from lm.config.cli import one_line_errors
        from lm.config.command_line import prepare_command_line
        from lm.config.completion import hide_instantiation_keys
        from lm.config.composition import CONF
        from lm.config.overrides import only_prints

        prepare_command_line(name, free_text)
        if only_prints(sys.argv[1:]):  # Hydra does, and would show a traceback where `head` has closed the pipe
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            hide_instantiation_keys()
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(one_line_errors(function))()

    return main


def imported() -> None:
    """Start collecting garbage, but for what was imported; every script calls it after its imports."""
    gc.freeze()
    gc.enable()
