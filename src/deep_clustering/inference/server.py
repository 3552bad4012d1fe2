"""A model behind HTTP: MLflow's protocol and answers, with bounds on what a request may be.

MLflow's own server reads a body of any size and any depth, for as long as it takes; here what is too much is refused
before anything is made of it. Of the model its data is read; code that is stored with it is not run.
"""

import asyncio
import csv
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from deep_clustering.inference.predictor import Assigner, Predictor, from_bytes, to_bytes
from deep_clustering.inference.stored import read_predictor
from deep_clustering.training.signals import leaving_on_sigterm

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

_CONNECTIONS = "deep_clustering.inference.connections:Timely"
_CHOSEN = "DEEP_CLUSTERING_SERVED"
_KINDS = (b"application/json", b"text/csv")
_PATHS = ("/invocations", "/ping", "/health", "/version")
_ANSWERED = "POST /invocations, GET /ping, GET /health or GET /version"

# What the readers of MLflow, json and pandas raise for content that is not of the form they expect.
_UNREADABLE = (RecursionError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, and with which bounds."""

    model: str
    """File of the predictor."""

    max_bytes: int
    """Most bytes of a request's body."""

    max_seconds: float = 60.0
    """Longest time that a body may take to arrive, and an answer to be made and sent."""

    weights: str | None = None
    """Where a backbone's weights are, if not where they were."""


def serve(project_path: Path, model: str, *, host: str, port: int, workers: int, **bounds: Any) -> None:  # noqa: ANN401
    """Serve a model until the process is ended.

    Each worker reads the same copy of the predictor, whatever happens to the model's own files meanwhile.

    Args:
        project_path: Root of the project, whose store is asked.
        model: See `read_predictor`.
        host: Address to listen on.
        port: Port to listen on.
        workers: Number of processes.
        bounds: Further fields of `Serving`.

    Raises:
        TrackingError: if the store does not have the model.
        ValueError: if there is no such file, or it is not a predictor that works here.
    """
    import uvicorn

    predictor, name = read_predictor(project_path, model)
    Assigner(predictor, bounds.get("weights"))  # what is missing is said here, once, and not by each worker
    # uvicorn, once it has ended, raises SIGTERM anew for the handler before its own: the copy goes, too.
    with leaving_on_sigterm(), tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "predictor.safetensors"
        copy.write_bytes(to_bytes(predictor))
        os.environ[_CHOSEN] = json.dumps(asdict(Serving(model=str(copy), **bounds)))
        logger.info("%s on http://%s:%d/invocations, %d workers", name, host, port, workers)
        uvicorn.run(
            f"{__name__}:app",
            factory=True,
            http=_CONNECTIONS,
            host=host,
            port=port,
            workers=workers,
            log_level="warning",
            lifespan="off",
        )


def app() -> App:
    """What uvicorn runs in each worker; the parent has said of which model."""
    chosen = Serving(**json.loads(os.environ[_CHOSEN]))
    return make_app(from_bytes(Path(chosen.model).read_bytes()), chosen)


def make_app(predictor: Predictor, chosen: Serving) -> App:
    """The application for a predictor.

    Args:
        predictor: What assigns rows.
        chosen: The bounds.

    Returns:
        MLflow's application, which answers /invocations, /ping and /version, behind `Bounded`.
    """
    from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
    from mlflow.pyfunc import scoring_server
    from starlette.exceptions import HTTPException

    from deep_clustering.inference.mlflow_model import ClusteringModel

    served: Any = _Served(ClusteringModel.of(predictor, chosen.weights))
    # What MLflow answers when this time is over is no JSON; the bounds end before.
    MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.set(int(2 * chosen.max_seconds) + 1)
    answering = scoring_server.init(served)
    # FastAPI answers more, with pages that fetch scripts from elsewhere.
    answering.router.routes[:] = [route for route in answering.router.routes if getattr(route, "path", "") in _PATHS]
    for kind in _UNREADABLE:
        answering.add_exception_handler(kind, _unreadable)
    answering.add_exception_handler(Exception, _failed)
    answering.add_exception_handler(HTTPException, _not_here)
    return Bounded(answering, chosen.max_bytes, chosen.max_seconds)


class _Served:
    """What MLflow's server asks of a model."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        from mlflow.models import Model

        self.metadata = Model()
        self._model = model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        from mlflow.exceptions import MlflowException

        try:
            return self._model.predict(None, data, params)
        except MlflowException:
            raise
        except Exception as error:
            # MLflow would put the rows and the stack, with files of this machine, into the answer.
            logger.exception("a request failed")
            raise MlflowException("the model failed on these rows; the log of the server says how") from error


async def _unreadable(_: Any, error: Exception) -> Any:  # noqa: ANN401
    from fastapi.responses import Response

    reason = "it is nested too deep" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
    status, content = _said(HTTPStatus.BAD_REQUEST, f"the request cannot be read: {reason}")
    return Response(content, status_code=status, media_type="application/json")


async def _failed(*_: Any) -> Any:  # noqa: ANN401
    from fastapi.responses import Response

    status, content = _said(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the log of the server says how")
    return Response(content, status_code=status, media_type="application/json")


async def _not_here(request: Any, error: Any) -> Any:  # noqa: ANN401
    from fastapi.responses import Response

    message = f"got {request.method} {request.url.path[:80]}; expected {_ANSWERED}"
    status, content = _said(HTTPStatus(error.status_code), message)
    return Response(content, status_code=status, headers=error.headers, media_type="application/json")


class _RefusedError(Exception):
    """A request that is answered without asking the model."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Bounded:
    """Takes the body of a request as a whole, or refuses it, before the application behind sees anything.

    What is too long is read on and dropped, as a client that is cut off while it sends sees no answer; a body that is
    longer still ends with its connection.
    """

    _DROPPED = 16
    """How many times the limit is read on."""
    _HELD = 16
    """How many bodies of the largest size may be held at once."""

    def __init__(self, app: App, max_bytes: int, max_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI asks it."""
        pieces: list[bytes] = []
        try:
            if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
                await self._answer_in_time(scope, receive, send)
                return
            kind = _checked_kind(dict(scope["headers"]).get(b"content-type"))
            if await self._take_in_time(receive, pieces):
                body = b"".join(pieces)
                if kind == b"text/csv":
                    _check_columns(body)
                await self._answer_in_time(scope, _replay(body, receive), send)
        except _RefusedError as error:
            await _refuse(send, error.status, str(error))
        finally:
            self._held -= sum(map(len, pieces))

    async def _answer_in_time(self, scope: Message, receive: Receive, send: Send) -> None:
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._max_seconds):
                await self._app(scope, receive, noted)
        except TimeoutError:
            if has_begun:  # by a client that does not read it: uvicorn ends the connection
                raise
            message = f"no answer after {self._max_seconds:g} seconds: send fewer rows at a time, or try again later"
            raise _RefusedError(HTTPStatus.GATEWAY_TIMEOUT, message) from None

    async def _take_in_time(self, receive: Receive, pieces: list[bytes]) -> bool:
        try:
            async with asyncio.timeout(self._max_seconds):
                return await self._take(receive, pieces)
        except TimeoutError:
            message = f"the body took longer than {self._max_seconds:g} seconds"
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, message) from None

    async def _take(self, receive: Receive, pieces: list[bytes]) -> bool:
        """Read a body into pieces; whether it came whole: a client may have gone."""
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return False
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._max_bytes:
                self._drop(pieces)
            elif piece:
                pieces.append(piece)
                self._held += len(piece)
            if self._held > self._HELD * self._max_bytes:
                raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once: try again later")
            if not message.get("more_body") or size > self._DROPPED * self._max_bytes:
                break
        if size > self._max_bytes:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"body: got {size} bytes; expected at most {self._max_bytes}: send the rows in several requests",
            )
        return True

    def _drop(self, pieces: list[bytes]) -> None:
        self._held -= sum(map(len, pieces))
        pieces.clear()


def _checked_kind(kind: bytes | None) -> bytes:
    name, *parameters = [part.strip().lower() for part in (kind or b"").split(b";")]
    if name not in _KINDS or set(parameters) - {b"", b"charset=utf-8"}:
        got = "none" if kind is None else f"'{kind.decode('latin-1')[:80]}'"
        expected = " or ".join(known.decode() for known in _KINDS) + ", in UTF-8 and without other parameters"
        raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"content type: got {got}; expected {expected}")
    return name


def _check_columns(body: bytes) -> None:
    """Refuse a CSV with two columns of a name: pandas calls the second otherwise without a word."""
    head = body.lstrip(b"\r\n").split(b"\n", 1)[0].decode("utf-8", "replace")
    names = Counter(next(csv.reader([head.strip("\r\ufeff")]), []))
    if repeated := [name for name, n in names.items() if n > 1]:
        message = f"rows: got {names[repeated[0]]} columns '{repeated[0][:80]}'; expected another name for each"
        raise _RefusedError(HTTPStatus.BAD_REQUEST, message)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _said(status: HTTPStatus, message: str) -> tuple[int, bytes]:
    """Status and body of an answer, in the form of MLflow's."""
    return status.value, json.dumps({"error_code": status.name, "message": message}).encode()


async def _refuse(send: Send, status: HTTPStatus, message: str) -> None:
    code, content = _said(status, message)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    # Half of a body may still be on its way, which the next request would begin with.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": content})
