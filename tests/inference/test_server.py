"""The server's bounds: what is too long, too deep, too slow or of another kind is refused, and the rest goes on."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from sklearn.datasets import load_digits

from deep_clustering.data.preparation import prepare
from deep_clustering.inference.connections import Timely
from deep_clustering.inference.predictor import Assigner, PredictorOptions, make_predictor, to_bytes
from deep_clustering.inference.server import Bounded, Serving, _Served, make_app, serve
from deep_clustering.methods import make_method, save_method

RAW = load_digits().images[:60, None].astype(np.uint8)
MAX_BYTES = 40_000
JSON = [(b"content-type", b"application/json")]


def ask(app, messages, headers=JSON, method="POST"):
    """Status and content of an application's answer to a request that arrives in these messages."""
    waiting, sent = list(messages), []

    async def receive():
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/invocations", "headers": headers, "query_string": b""}
    asyncio.run(app(scope, receive, send))
    return (sent[0]["status"], sent[1]["body"]) if sent else None


def pieces(body, n_bytes=1000):
    """A body as the messages in which it arrives."""
    parts = [body[start : start + n_bytes] for start in range(0, len(body), n_bytes)] or [b""]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False
    return messages


class Behind:
    """The application behind the bounds: notes what it is given."""

    def __init__(self):
        self.bodies = []

    async def __call__(self, scope, receive, send):
        self.bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def behind():
    return Behind()


@pytest.mark.parametrize("n_bytes", [0, 1, 999, 1000, 2500])
def test_a_body_within_the_limit_arrives_as_it_was_sent(behind, n_bytes):
    body = bytes(range(256)) * 10
    app = Bounded(behind, 2500, 5)
    assert ask(app, pieces(body[:n_bytes])) == (200, b"done")
    assert behind.bodies == [body[:n_bytes]]
    assert app._held == 0


@pytest.mark.parametrize("n_bytes", [2501, 20_000, 10**6])
def test_a_longer_one_is_refused_and_never_held(behind, n_bytes):
    app = Bounded(behind, 2500, 5)
    status, content = ask(app, pieces(b" " * n_bytes))
    assert status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert "expected at most 2500: send the rows in several requests" in json.loads(content)["message"]
    assert (behind.bodies, app._held) == ([], 0)


def test_a_body_that_does_not_end_is_refused(behind):
    status, content = ask(Bounded(behind, 2500, 0.01), pieces(b"1" * 1500)[:1])
    assert (status, json.loads(content)["message"]) == (408, "the body took longer than 0.01 seconds")
    assert behind.bodies == []


def test_an_answer_that_takes_too_long_is_given_up():
    async def never(scope, receive, send):
        await asyncio.Event().wait()

    app = Bounded(never, 2500, 0.01)
    status, content = ask(app, pieces(b"1"))
    expected = "no answer after 0.01 seconds: send fewer rows at a time, or try again later"
    assert json.loads(content) == {"error_code": "GATEWAY_TIMEOUT", "message": expected}
    assert (status, app._held) == (504, 0)
    assert ask(app, [], method="GET")[0] == HTTPStatus.GATEWAY_TIMEOUT


def test_an_answer_that_has_begun_is_not_begun_again():
    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        ask(Bounded(half, 2500, 0.01), pieces(b"1"))


def test_a_client_that_leaves_is_not_answered(behind):
    app = Bounded(behind, 2500, 5)
    assert ask(app, [*pieces(b"1" * 1500)[:1], {"type": "http.disconnect"}]) is None
    assert (behind.bodies, app._held) == ([], 0)


@pytest.mark.parametrize(
    "kind",
    [None, b"application/x-parquet", b"\xff;", b"application/json; charset=latin-1", b"application/json; version=1"],
)
def test_another_kind_is_refused(behind, kind):
    headers = [] if kind is None else [(b"content-type", kind)]
    status, content = ask(Bounded(behind, 2500, 5), pieces(b"1"), headers)
    assert status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert "expected application/json or text/csv" in json.loads(content)["message"]


def test_two_columns_of_a_name_are_refused_in_csv(behind):
    """pandas reads a second `a` as `a.1`, and nobody could tell it from a column of that name."""
    kind = [(b"content-type", b"text/csv; charset=utf-8")]
    status, content = ask(Bounded(behind, 2500, 5), pieces(b'\xef\xbb\xbfa,"b,c",a\r\n5,4,-9\n', 3), kind)
    assert status == HTTPStatus.BAD_REQUEST
    assert json.loads(content)["message"] == "rows: got 2 columns 'a'; expected another name for each"
    assert ask(Bounded(behind, 2500, 5), pieces(b'a,"b,c",b\n5,4,-9\n5,5,5\n'), kind)[0] == HTTPStatus.OK


def test_more_bodies_than_memory_is_meant_for_are_put_off(behind):
    app = Bounded(behind, 2500, 5)
    app._held = 16 * 2500
    assert ask(app, pieces(b"1"))[0] == HTTPStatus.SERVICE_UNAVAILABLE
    assert app._held == 16 * 2500


@pytest.fixture(scope="module")
def predictor(tiny_options, parameters):
    split = np.full(60, 3, dtype=np.uint8)
    card = {"name": "digits", "value_range": [0.0, 16.0], "sha256": {"samples": "0" * 64}}
    rows, preparation = prepare(RAW, split, card, {"terms": [], "idf": None}, parameters["features"])
    fitted = make_method(tiny_options("gmm")).fit(rows)
    options = PredictorOptions(outlier_quantile=0.1, max_rows=50, data_set="numerals")
    return make_predictor(save_method(fitted), preparation, fitted.history_, None, split, options)


@contextmanager
def served(app, **options):
    """An application that uvicorn serves in a thread of this process: its port, and uvicorn's server."""
    import uvicorn

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", **options))
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield bound.getsockname()[1], server
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def address(predictor):
    """Of the real server, in a thread of this process."""
    with served(make_app(predictor, Serving(model="", max_bytes=MAX_BYTES))) as (port, _):
        yield f"http://127.0.0.1:{port}/invocations"


def post(address, body, kind="application/json"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return fetch(urllib.request.Request(address, content, {"Content-Type": kind} if kind else {}))


def fetch(request):
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


WRONG = {
    "nested": (b'{"inputs": ' + b"[" * 15_000 + b"]" * 15_000 + b"}", 400, ""),
    "nested objects": (b'{"a":' * 6000 + b"1" + b"}" * 6000, 400, ""),
    "nested within limits of json": (b'{"inputs": ' + b"[" * 400 + b"]" * 400 + b"}", 400, ""),
    "too long": (b" " * (MAX_BYTES + 1), 413, f"got {MAX_BYTES + 1} bytes; expected at most {MAX_BYTES}"),
    "too many rows": ({"inputs": RAW[:51].reshape(51, 64).tolist()}, 400, "got 51; expected at most 50 at once"),
    "no table": ({"dataframe_split": 5}, 400, ""),
    "no records": ({"dataframe_records": "abc"}, 400, ""),
    "a number": (b"1", 400, ""),
    "no number of any type": ({"inputs": [[10**400] * 64]}, 400, "not numbers"),
    "no numbers": ({"inputs": {"a": {"b": [1]}}}, 400, ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_a_status_of_the_client(address, name):
    body, expected, message = WRONG[name]
    status, answer = post(address, body)
    assert status == expected, answer
    assert message in json.loads(answer)["message"]
    assert "Traceback" not in answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/invocation", "NOT_FOUND"),
        ("GET", "/", "NOT_FOUND"),
        ("GET", "/docs", "NOT_FOUND"),
        ("GET", "/invocations", "METHOD_NOT_ALLOWED"),
    ],
)
def test_a_path_or_method_that_is_not_there_is_answered_in_the_same_form(address, method, path, status):
    body = b"{}" if method == "POST" else None
    url = address.removesuffix("/invocations") + path
    code, answer = fetch(urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method))
    expected = "POST /invocations, GET /ping, GET /health or GET /version"
    assert json.loads(answer) == {"error_code": status, "message": f"got {method} {path}; expected {expected}"}
    assert code == HTTPStatus[status]


def test_a_model_that_fails_tells_the_client_neither_rows_nor_files():
    def fail(*_):
        raise RuntimeError(f"{__file__} has 4711")

    served = _Served(SimpleNamespace(predict=fail))
    with pytest.raises(MlflowException) as failed:
        served.predict([[4711]])
    said = failed.value.serialize_as_json()
    assert "log of the server" in said
    assert "4711" not in said
    assert __file__ not in said


@pytest.fixture(scope="module")
def impatient():
    """A server that looks at its connections twenty times a second, and whose answers are long; and its port."""

    class Hasty(Timely):
        SECONDS = 0.05

    async def say_much(scope, receive, send):
        if scope["path"] == "/later":
            await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100 if scope["path"] == "/much" else 1):
            await send({"type": "http.response.body", "body": b"." * 10**6, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with served(Bounded(say_much, 2500, 2), http=Hasty) as (port, server):
        yield port, server


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGE"])
def test_a_client_that_says_no_more_is_cut_off(impatient, said):
    with socket.create_connection(("127.0.0.1", impatient[0]), 30) as client:
        client.sendall(said)
        while client.recv(10**6):
            pass  # and comes to an end: a connection that stays open would time out


def test_a_client_that_does_not_listen_is_cut_off(impatient):
    port, server = impatient
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
        client.recv(1)
        deadline = time.monotonic() + 60
        while server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.server_state.connections


def test_an_answer_that_is_thought_over_is_waited_for(impatient):
    with urllib.request.urlopen(f"http://127.0.0.1:{impatient[0]}/later", timeout=30) as answer:
        assert len(answer.read()) == 10**6


def test_concurrent_answers_equal_those_of_the_predictor(address, predictor):
    expected = Assigner(predictor).assign(RAW)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda start: post(address, {"inputs": RAW[start : start + 5].tolist()}), range(0, 55)))
    for start, (status, answer) in enumerate(answers):
        assert status == 200, answer
        table = pd.DataFrame(answer["predictions"])
        assert table["cluster"].tolist() == expected["cluster"][start : start + 5].tolist()
        np.testing.assert_allclose(table["probability"], expected["probability"][start : start + 5], rtol=1e-3)


def test_workers_read_a_copy_that_nobody_changes(predictor, tmp_path, monkeypatch):
    import uvicorn
    from uvicorn.importer import import_from_string

    from deep_clustering.inference import server

    file, seen = tmp_path / "predictor.safetensors", []
    file.write_bytes(to_bytes(predictor))
    monkeypatch.setenv("DEEP_CLUSTERING_SERVED", "")

    def run(name, **options):
        file.write_bytes(b"cut")
        seen.append(SimpleNamespace(name=name, app=server.app(), **options))

    monkeypatch.setattr(uvicorn, "run", run)
    serve(tmp_path, str(file), host="127.0.0.1", port=1234, workers=2, max_bytes=MAX_BYTES)
    (ran,) = seen
    assert (ran.workers, ran.port, ran.app._max_bytes) == (2, 1234, MAX_BYTES)
    assert ran.name == "deep_clustering.inference.server:app"
    assert import_from_string(ran.http) is Timely


def test_a_server_that_is_told_to_end_leaves_no_copy(predictor, tmp_path):
    """A polite kill, as every restart by systemd or docker sends it."""
    file, scratch = tmp_path / "predictor.safetensors", tmp_path / "scratch"
    file.write_bytes(to_bytes(predictor))
    scratch.mkdir()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    code = (
        "import pathlib; from deep_clustering.inference.server import serve; "
        f"serve(pathlib.Path(), {str(file)!r}, host='127.0.0.1', port={port}, workers=1, max_bytes=1000)"
    )
    server = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(scratch)})
    try:
        until = time.monotonic() + 60
        while fetch_status(f"http://127.0.0.1:{port}/ping") != HTTPStatus.OK:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert list(scratch.rglob("predictor.safetensors"))
        server.terminate()
        assert server.wait(30) == 128 + signal.SIGTERM
    finally:
        server.kill()
    assert not list(scratch.rglob("predictor.safetensors"))


def fetch_status(url):
    """Status of an answer, None while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except OSError:
        return None


def test_what_is_no_predictor_is_refused_before_anything_is_served(tmp_path):
    (tmp_path / "predictor.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"^/.*predictor\.safetensors: expected a predictor"):
        serve(tmp_path, str(tmp_path / "predictor.safetensors"), host="127.0.0.1", port=1, workers=1, max_bytes=10)
