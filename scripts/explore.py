"""Explore trained models on a page in the browser: type a text, see it scored, let it be continued."""

import socket
import webbrowser
from threading import Thread

from omegaconf import DictConfig

from lm.config.script import imported, script_main
from lm.errors import UserError


def explore(config: DictConfig) -> None:
    """Serve the page until Ctrl-C."""
    try:
        import uvicorn

        from lm.explore.app import HOST, make_app
    except ImportError as error:
        raise UserError(f"explore.py needs more packages ({error.name}): pip install -e '.[explore]'") from error
    from lm import LanguageModel
    from lm.checkpoints.find import announced_checkpoints, run_names

    ckpts = announced_checkpoints(config.ckpt)
    if len(ckpts) > 2:
        raise UserError(f"ckpt={config.ckpt} given, but at most two models are compared: give one or two.")
    with listening(HOST, config.port) as listener:
        loaded = [LanguageModel.load(path, config.tokenize) for path in ckpts]
        if len({model.tokenize for model in loaded}) > 1:
            raise UserError(f"Of ckpt={config.ckpt} one was trained on tokenised text: give tokenize=true for both.")
        models = dict(zip(run_names(ckpts), loaded, strict=True))
        app = make_app(models, str(config.text or ""))
        imported()
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        print(f"{address}  (Ctrl-C ends)", flush=True)
        if config.browser:
            Thread(
                target=webbrowser.open, args=[address], daemon=True
            ).start()  # one in the terminal waits for the page
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at a port of this machine; at any free one if it is 0."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise UserError(f"port={port} given, but it cannot be used ({error}): give another, or 0 for any.") from error


main = script_main("explore", explore, ["text"])

if __name__ == "__main__":
    main()
