"""What leaves the process as text: no credential, no order to a terminal, no formula."""

import base64
import logging
import re
from html import unescape

import pytest
from markdown_it import MarkdownIt

from deep_clustering.redaction import (
    REDACTED,
    csv_cell,
    flatten,
    guard_logs,
    markdown_cell,
    message,
    one_line,
    redact,
    redact_text,
)

HUSH = "hush0123456789hush"

SHAPES = [
    f"https://me:{HUSH}@host/data",
    f"https://{HUSH}@host/data",
    f"mysql+pymysql://me:{HUSH}/with/slashes@host/mlflow",
    f"postgresql://me:at@{HUSH}@host/mlflow",
    f"redis://:{HUSH}@host",
    f"/project/https:/me:{HUSH}/x@host/rows.npy",
    f"https://host/rows.npy?password={HUSH}&seed=1",
    f"https://host/rows.npy?sv=2024&sig={HUSH}%2B&se=1",
    f"https://host/rows.npy?X-Amz-Signature={HUSH}",
    f"https://host/rows.npy?key={HUSH}",
    f"https://host/rows.npy;token={HUSH}",
    f"Authorization: Bearer {HUSH}",
    f"{{'Authorization': 'Basic {HUSH}'}}",
    f"refused: bearer {HUSH}",
    f"AccountName=me;AccountKey={HUSH}==;EndpointSuffix=core",
    f"SharedAccessSignature={HUSH}",
    f"Server=host;Uid=me;Pwd={HUSH};",
    f'{{"password": "{HUSH} and more"}}',
    f"api_key='{HUSH}'",
    f"two: http://me:{HUSH}@a,http://you:{HUSH}@b",
    f"ghp_{HUSH}ABCDEF",
    f"hf_{HUSH}ABCDEF",
    f"eyJ{HUSH}.{HUSH}.{HUSH}",
    f"token={HUSH}",
    f'{{"token": "{HUSH}"}}',
    f"MLFLOW_TRACKING_TOKEN={HUSH}",
    f"refresh_token={HUSH}",
    f"sig={HUSH}&se=1",
    f"--password {HUSH}",
    f"--api-key {HUSH}",
    f"--token={HUSH}",
    f"Cookie: session={HUSH}; other={HUSH}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{HUSH}\n{HUSH}\n-----END RSA PRIVATE KEY-----",
    f"https%3A%2F%2Fme%3A{HUSH}%40host",
    f"//me:{HUSH}@host/x",
    f"glpat-{HUSH}",
    f"sk_live_{HUSH}",
    f"AIzaSy{HUSH}ABCDEFGHIJKLMNOPQ",
    f"npm_{HUSH}ABCDEFGHIJKLMNOPQR",
    f"dop_v1_{HUSH}",
    f"auth: {HUSH}",
    f"http_auth: '{HUSH}'",
    f"token: {HUSH}",
    f"auth=('me', '{HUSH}')",
    f"auth=('me','{HUSH} and more')",
    f'auth=("me", "{HUSH}")',
    f"auth = ['me', '{HUSH}']",
    f"{{'auth': ('me', \"{HUSH}\")}}",
    f'{{"auth": ["me", "{HUSH}"]}}',
    f"HTTPBasicAuth('me', '{HUSH}')",
    f"http_auth=('me', '{HUSH}')",
    f"basic_auth=('me', '{HUSH}')",
    f"my_proxy_auth = ['me', '{HUSH}']",
    f"proxyauth=('me', '{HUSH}')",
    f"https://host/back?code={HUSH}",
    f"https://host/back?state=1&code={HUSH}",
    f"https://host/back#code={HUSH}",
    f"me:{HUSH}@localhost",
    f"me:{HUSH}@localhost:5432/mlflow",
    f"me:{HUSH}@127.0.0.1",
    f"me:{HUSH}@db.host.org:5432/mlflow",
    f"me:{HUSH}@db.host.org/mlflow",
    f"me:{HUSH}@[::1]/mlflow",
    f"password=>{HUSH}",
    f"wrong passphrase '{HUSH}'",
]


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize("around", ["{}", "no file at {}", "mlflow.exceptions.RestException: '{}' (404)"])
def test_no_credential_is_left_in_a_text(text, around):
    hidden = redact_text(around.format(text))
    assert HUSH not in hidden
    assert REDACTED in hidden
    assert redact_text(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "models:/digits-dcan@champion",
        "https://github.com/owner/repository@v1",
        "/data/me@home/rows.npy",
        "sqlite:////data/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/1/runs/2",
        "--params=ingestion.source.key=images,features.max_tokens=3",
        "unexpected token: got 'x', expected a key: one of a, b",
        "C:/data/rows.npy",
        "token=short, max_tokens=12345678, token_pattern=[a-z]{2,}",
        "--tokens 12345678",
        "a pass over 12345678 rows; pass: 12345678",
        "design=12345678 and path=/data/rows.npy",
        "ratio 3:2@k",
        "ratio 12345678:2@k",
        "me@host.org, mailto:me2024@host.org and contact:jane.doe@host.org",
        "at 12:30:15@host, 2024-01-01T10:20:30@host",
        "python:3.11-slim2@sha256:0123456789abcdef",
        "C:/data/rows2024@home.npy",
        "git@github.com:owner/repository2",
        "code=3 and code=12345678, exit code: 12345678",
        "https://host/x?code=3",
        "auth: none",
        "auth: authentication",
        "auth: 12345678",
        "auth=(none, none), auth=()",
        'coauth = ["a","b"]',
        'xauth=("features", "labels")',
        "unexpected token: expected",
        "unexpected token: line12column3",
        "token: word2vec-google-news",
        "token: resnet50classifier",
        "a token: /data/models2/x.onnx",
        "auth: OAuth2.0-required",
        "npm:package-1234x@latest",
        "npm:package-1234x@1.2.3",
        "see file.py:function12@line",
        "dcan:acc0.95123@seed0",
        "time:2024-01-01T10@host",
        "process:worker-12@node-3:6379",
        "contact:jane.doe2024@host.org",
        "token: 12345678",
        "the password 'short' and a password \"of words\"",
        "basic configuration of everythingelse",
        "Basic YWJjZGVmZ2hpamts",
    ],
)
def test_other_texts_stay(text):
    assert redact_text(text) == text


@pytest.mark.parametrize("login", ["me:hush", f"me:{HUSH}", "me:größe", f"{HUSH}:", f"me:{HUSH}:with:colons"])
@pytest.mark.parametrize(
    "around", ["refused: Basic {}", "{{'value': 'basic {}'}}", "Basic%20{}", "Authorization: Basic {}"]
)
def test_an_encoded_login_is_hidden(login, around):
    encoded = base64.b64encode(login.encode()).decode()
    hidden = redact_text(around.format(encoded))
    assert encoded.rstrip("=") not in hidden
    assert REDACTED in hidden
    assert redact_text(hidden) == hidden


def test_an_encoded_login_of_an_old_server_is_hidden():
    assert base64.b64decode("bWU6aPxzaA==") == "me:hüsh".encode("latin-1")
    assert redact_text("Basic bWU6aPxzaA==") == "Basic [redacted]"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("password 'a1b2c3d4'", "password '[redacted]'"),
        (f'http_auth: "{HUSH}"', 'http_auth: "[redacted]"'),
        (f"token: {HUSH}", "token: [redacted]"),
    ],
)
def test_quotes_stay_in_pairs(text, hidden):
    assert redact_text(text) == hidden


@pytest.mark.parametrize("text", ["-eyJaaaaaaaa", "-xoxb-a.", "a+b:", "token: a1", "auth=('"])
def test_a_long_text_of_beginnings_is_searched_once(text):
    assert redact_text(text * 50_000) == text * 50_000


@pytest.mark.parametrize(
    "name",
    [
        *("password", "db_passwd", "secret", "credentials", "auth", "authorization", "bearer", "sas", "pat", "pass"),
        *(
            "passphrase",
            "connection_string",
            "api_key",
            "access_token",
            "http.auth",
            "cookie",
            "id_jwt",
            "sentry_dsn",
            "azure_sas",
            "github-pat",
            "db_pw",
            "conn_str",
            "db_conn_string",
            "ConnectionStrings",
            "azureConnectionString",
            "session_id",
        ),
    ],
)
def test_values_of_such_names_are_hidden(name):
    assert flatten({"store": {name: HUSH}}) == {f"store.{name}": REDACTED}


@pytest.mark.parametrize(
    "name",
    [
        *("path", "pattern", "token_pattern", "max_tokens", "author", "passes", "sash", "session"),
        *("connection_strength", "conn_stride", "conn_structure", "reconnstruct"),
    ],
)
def test_values_of_other_names_stay(name):
    assert redact({name: "shown"}) == {name: "shown"}


def test_a_message_gives_no_orders_and_forges_no_line():
    name = "a\x1b[2Jb\r\n12:00:00 INFO    all is well\u202e.png"
    assert message(f"no file at {name}") == ("no file at a\\x1b[2Jb\\r\n    12:00:00 INFO    all is well\\u202e.png")
    assert one_line(name) == "a\\x1b[2Jb\\r\\n12:00:00 INFO    all is well\\u202e.png"
    assert message("first\n    set in") == "first\n    set in"
    assert one_line("größe 北京 \udcff") == "größe 北京 \\udcff"


def test_records_are_guarded_whoever_logs(caplog):
    before = logging.getLogRecordFactory()
    try:
        guard_logs()
        guarded = logging.getLogRecordFactory()
        guard_logs()
        assert logging.getLogRecordFactory() is guarded
        logging.getLogger("somebody").warning("no file at %s", f"https://me:{HUSH}@host/\x1b[2J")
        try:
            raise ValueError(f"password={HUSH}")
        except ValueError:
            logging.getLogger("somebody").exception("failed")
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.records[0].getMessage() == "no file at https://[redacted]@host/\\x1b[2J"
    assert HUSH not in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "cell", ["=1+1", "\uff1d1+1", "\uff20x", "+cmd", "-cmd", "@x", "\tx", "\r=x", "\n=x", "\x00=x"]
)
def test_a_cell_is_no_formula(cell):
    assert csv_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-1.5", "+2", "a=b", "", 3, None])
def test_other_cells_stay(cell):
    assert csv_cell(cell) == cell


def test_a_cell_of_markdown_is_one_cell_and_no_html():
    assert markdown_cell("a|b\nc<script>") == "a\\|b\\nc&lt;script>"
    assert markdown_cell("p < 0.0001") == "p < 0.0001"


# What Markdown would make of a cell, and what it is to show: the text itself.
ALIVE = [
    "![x](https://evil.example/p.png)",
    "[x](https://evil.example)",
    "[x](//evil.example)",
    "[x] (javascript:alert(1))",
    "[x [y](z)](w)",
    r"[x\](https://evil.example)",
    r"[x\\](https://evil.example)",
    "<https://evil.example>",
    "<img src=x>",
    r"\<img src=x>",
    "a | b",
    r"a \| b",
    r"a \\| b",
]


def of_python_markdown(page):
    return pytest.importorskip("markdown").markdown(page, extensions=["tables"])


@pytest.mark.parametrize("render", [of_python_markdown, MarkdownIt("commonmark").enable("table").render])
@pytest.mark.parametrize("cell", ALIVE)
def test_neither_links_nor_images_nor_tags_of_a_cell_come_alive(render, cell):
    page = f"| a | b |\n| --- | --- |\n| {markdown_cell(cell)} | after |\n"
    html = render(page)
    assert not re.search(r"<(a|img|script)\b", html), html
    shown = [unescape(one) for one in re.findall(r"<td>(.*?)</td>", html)]
    assert shown == [cell, "after"]


@pytest.mark.parametrize("cell", ["https://evil.example", "see WWW.evil.example", "ftp://evil.example"])
def test_a_bare_address_is_no_link_to_those_who_make_links_of_them(cell):
    shown = markdown_cell(cell)
    assert not re.search(r"://|www\.", shown, re.IGNORECASE)
    assert unescape(shown) == cell


@pytest.mark.parametrize("cell", ["[0.812, 0.903]", "0.9 (+1 failed)", "views.scale=[0.1, 0.2]", r"C:\x"])
def test_what_has_no_meaning_in_markdown_stays(cell):
    assert markdown_cell(cell) == cell
