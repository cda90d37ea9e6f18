"""A local page on which one types a text and sees how models score and continue it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from itertools import chain, islice, takewhile
from threading import Lock
from typing import Any

from matplotlib.figure import Figure
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lm.config.checks import one_of
from lm.errors import UserError
from lm.language_model import LanguageModel, pieces
from lm.models.attention_weights import has_attention
from lm.plots import attention_maps, log_prob_heat_map
from lm.plots.surprisal_page import filled, plain_score, script_json
from lm.score import Score

HERE = files("lm.explore")
HOST = "127.0.0.1"  # nobody else may use the models, or read what is typed
# pages of other sites cannot read the answers, nor this page load anything from other hosts
HEADERS = {"Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src 'self' data:"}
TOP = 10  # candidates for a word
MOST_WORDS = 5000  # in a request
MOST_WORDS_IN_FIGURE = 60
MOST_WORDS_TO_CONTINUE = 1000
SAMPLING = ("temperature", "top_p", "max_words", "seed")  # the options of a continuation


def make_app(models: Mapping[str, LanguageModel], text: str = "") -> Starlette:
    """The page and what it asks for.

    Args:
        models: by their names.
        text: stands on the page from the beginning.
    """
    explorer = Explorer(models, text)
    return Starlette(
        routes=[
            Route("/", explorer.page),
            Route("/score", explorer.score, methods=["POST"]),
            Route("/continue", explorer.continuation, methods=["POST"]),
            Route("/{view:str}.png", explorer.figure),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        exception_handlers={UserError: _mistake},
    )


class Explorer:
    """Answers the requests of the page; `model` in them is a number, from 0."""

    def __init__(self, models: Mapping[str, LanguageModel], text: str) -> None:
        self.models = list(models.values())
        self.names = list(models)
        self.text = text
        self.last: dict[int, Score] = {}  # by model; of a line that goes on, only the new words are scored
        self.lock = Lock()  # requests run in threads, but models are for one at a time

    async def page(self, request: Request) -> Response:
        """The page itself, with the models' names and the text to begin with."""
        models = [
            {"name": name, "attention": has_attention(model.model)}
            for name, model in zip(self.names, self.models, strict=True)
        ]
        title = escape(" and ".join(self.names))
        script = (HERE / "explore.js").read_text("utf-8")
        values = {"title": title, "text": escape(self.text), "models": script_json(models), "explore": script}
        return HTMLResponse(filled(HERE / "explore.html", **values), headers=HEADERS)

    async def score(self, request: Request) -> Response:
        """For each model the scores of `lines`."""
        lines = (await posted(request))["lines"]
        words = sum(len(line.split()) for line in lines)
        if words > MOST_WORDS:
            raise UserError(f"{words:,} words given at once, but at most {MOST_WORDS:,} are scored: use score.py.")
        each = [await run_in_threadpool(self._all_scored, i, lines) for i in range(len(self.models))]
        return JSONResponse(each)

    def _all_scored(self, model: int, lines: Sequence[str]) -> list[dict[str, Any]]:
        return [self._scored(model, line) for line in lines]

    def _scored(self, model: int, line: str) -> dict[str, Any]:
        with self.lock:
            self.last[model] = score = self.models[model].score(line, TOP, earlier=self.last.get(model))
        return plain_score(score)

    async def continuation(self, request: Request) -> Response:
        """A sample that continues `prompt`, word by word as it is drawn."""
        options = await posted(request)
        model, prompt = self.models[options.pop("model")], options.pop("prompt")
        for name in options:
            one_of(SAMPLING, option=name)
        if options.get("max_words", 0) > MOST_WORDS_TO_CONTINUE:
            raise UserError(f"max_words={options['max_words']} given, but it is at most {MOST_WORDS_TO_CONTINUE} here.")
        words = await run_in_threadpool(self._continued, model, prompt, options)
        return StreamingResponse(words, media_type="text/plain; charset=utf-8")

    def _continued(self, model: LanguageModel, prompt: str, options: Mapping[str, Any]) -> Iterator[str]:
        """`continued`, each word of which is drawn while nothing else is computed."""
        with self.lock:
            words = continued(model, prompt, options)
        return iter(lambda: self._next(words), None)

    def _next(self, words: Iterator[str]) -> str | None:
        with self.lock:
            return next(words, None)

    async def figure(self, request: Request) -> Response:
        """A figure of one line: `heat_map` or `attention`."""
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return Response(status_code=403)  # an image in a page of another site
        view, line = request.path_params["view"], request.query_params["line"]
        model = self.models[int(request.query_params["model"])]
        if view not in ("heat_map", "attention"):
            return Response(status_code=404)
        return Response(await run_in_threadpool(self._drawn, model, view, line), media_type="image/png")

    def _drawn(self, model: LanguageModel, view: str, line: str) -> bytes:
        """A figure of a line's beginning as a PNG file."""
        with self.lock:
            figure = drawn(model, view, line)
        return png(figure)


def continued(model: LanguageModel, prompt: str, options: Mapping[str, Any]) -> Iterator[str]:
    """The text of a sample after its prompt; an invalid option raises at once, not when it is read."""
    context = model.words_of(prompt)
    sampled = (word for [word] in model.stream(prompt, **options) if word is not None)
    first = list(islice(sampled, 1))
    text = islice(pieces(chain(context, first, sampled)), len(context), None)
    ends_with_space = prompt.endswith((" ", "\t"))
    return (part.removeprefix(" ") if ends_with_space and not i else part for i, part in enumerate(text))


def drawn(model: LanguageModel, view: str, line: str) -> Figure:
    """A figure of the first words of a line, as many as fit into it, or into a Transformer's context after `<eos>`."""
    if view == "attention":
        most = min(MOST_WORDS_IN_FIGURE, (model.model.core.context or math.inf) - 1)
        words, weights = model.attention(first_words(model, line, most))
        return attention_maps(weights, words)
    line = first_words(model, line, MOST_WORDS_IN_FIGURE)
    words = model.words_of_line(line)
    return log_prob_heat_map([model.log_probs(line)], [model.vocabulary.encode(words)], [words])


def first_words(model: LanguageModel, line: str, most: float) -> str:
    """The longest beginning of a line that has at most `most` words of the model."""
    given = line.split()[:MOST_WORDS_IN_FIGURE]
    lengths = (len(model.words_of_line(" ".join(given[: i + 1]), eos=False)) for i in range(len(given)))
    return " ".join(given[: sum(1 for _ in takewhile(lambda length: length <= most, lengths))])


async def posted(request: Request) -> Any:
    """The posted JSON; a browser asks first whether a page of another site may post that, and it may not."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise UserError("Post JSON, as application/json.")
    return await request.json()


def png(figure: Figure) -> bytes:
    """A figure in a file's bytes."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _mistake(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)
