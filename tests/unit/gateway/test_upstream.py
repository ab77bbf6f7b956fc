"""A real server of our own making on loopback, with a real model behind it: it shares no code
with what asks it."""

import http.server
import json
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from counterseal.errors import (
    CountersealError,
    Dropped,
    FormatError,
    PeerMisbehaved,
    TimedOut,
    TrustError,
)
from counterseal.gateway import oip_client
from counterseal.gateway.backends import server as servers
from counterseal.gateway.backends.seam import (
    ChatModel,
    Completion,
    Piece,
    Predictor,
    Prompt,
    TextModel,
)
from counterseal.gateway.backends.upstream import connect
from counterseal.gateway.tensors import Spec

np = pytest.importorskip("numpy")
datasets = pytest.importorskip("sklearn.datasets")
linear = pytest.importorskip("sklearn.linear_model")

PROMPT = Prompt((("user", "hello"),), {"temperature": 0, "model": "another"})


class Handler(http.server.BaseHTTPRequestHandler):
    """OIP v2 and the OpenAI API, as far as is needed; `server.mode` says how to misbehave."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, body, *, status=200, headers=(), raw=False):
        body = body if raw else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (self.server.mode == "cut off")))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if self.server.mode in {"cut off", "closing"}:
            self.close_connection = self.server.mode == "cut off"
            self.connection.shutdown(2)
            self.close_connection = True

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers), b""))
        mode = self.server.mode
        if self.path == "/v2":
            extensions = ["binary_tensor_data"] if self.server.binary else ["other"]
            self.say({"name": "s", "version": "1", "extensions": extensions})
        elif mode == "no metadata":
            self.say({"name": "m", "platform": "sklearn", "inputs": [], "outputs": []})
        elif self.path == "/v2/models/m":
            spec = {"name": "X", "datatype": "FP64", "shape": [-1, 30], "parameters": {}}
            outputs = [
                {"name": "label", "datatype": "INT64", "shape": [-1]},
                {"name": "p", "datatype": "BF16" if mode == "bf16" else "FP64", "shape": [-1, 2]},
            ]
            told = {"name": "m", "versions": ["1"], "platform": "sklearn", "inputs": [spec]}
            self.say(told | {"outputs": outputs})
        else:
            self.say({"error": "secret path /srv/models"}, status=404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        mode = self.server.mode
        if isinstance(mode, int):
            self.say({"error": "layer_7 of /srv/models/x"}, status=mode)
        elif mode == "slow":
            self.server.stop.wait(20)
        elif mode == "dripping":
            self.send_response(200)
            self.end_headers()
            while not self.server.stop.wait(0.02):
                self.wfile.write(b" ")
        elif mode == "endless":
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            for _ in range(1000):  # 64 MiB are endless enough
                self.wfile.write(b"a" * 65536)
        elif mode == "not http":
            self.wfile.write(b"hello\r\n\r\n")
            self.close_connection = True
        elif mode == "redirect":
            self.say({}, status=307, headers=[("Location", "http://elsewhere.example/")])
        elif self.path.endswith("/infer"):
            self.infer(body)
        else:
            self.openai(json.loads(body))

    def infer(self, body):
        length = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        asked = json.loads(body[:length])
        entry = asked["inputs"][0]
        rows = np.frombuffer(body[length:]) if length < len(body) else np.array(entry["data"])
        rows = rows.reshape(entry["shape"])
        label, p = self.server.model.predict(rows), self.server.model.predict_proba(rows)
        outputs = [
            {"name": "label", "datatype": "INT64", "shape": [len(rows)]},
            {"name": "p", "datatype": "FP64", "shape": [len(rows), 2]},
        ]
        answer = {"model_name": "m", "model_version": "1", "outputs": outputs}
        if not asked.get("parameters", {}).get("binary_data_output"):
            outputs[0]["data"] = label.tolist()
            outputs[1]["data"] = p.tolist()
            WRONG.get(self.server.mode, bool)(answer)
            self.say(answer)
            return
        blobs = [label.tobytes(), p.tobytes()]
        for output, blob in zip(outputs, blobs, strict=True):
            output["parameters"] = {"binary_data_size": len(blob)}
        head = json.dumps(answer).encode()
        size = "9" * 20 if self.server.mode == "header" else str(len(head))
        headers = [("Inference-Header-Content-Length", size)]
        self.say(head + b"".join(blobs), headers=headers, raw=True)

    def openai(self, asked):
        if self.path == "/v1/embeddings":
            data = [
                {"object": "embedding", "index": n, "embedding": [len(text), 0.5]}
                for n, text in enumerate(asked["input"])
            ]
            if self.server.mode == "missing vector":
                data.pop()
            if self.server.mode == "other width":
                data[0]["embedding"] = [1]
            if self.server.mode == "infinite vector":
                data[0]["embedding"] = [1e300, 0]
            self.say({"data": data[::-1], "usage": {"prompt_tokens": 7, "total_tokens": 7}})
            return
        words = ["you ", "said ", asked["messages"][-1]["content"]]
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            count = 2 if self.server.mode == "two choices" else 1
            self.say({"id": "c", "choices": [choice] * count, "usage": usage})
            return
        chunks = [{"choices": [{"delta": {"content": word}}]} for word in words]
        chunks.append({"choices": [{"delta": {}, "finish_reason": "length"}]})
        chunks.append({"choices": [], "usage": usage})
        events = [
            b": keep-alive\n\n",
            *(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks),
        ]
        if self.server.mode == "bad chunk":
            events[2] = b"data: {]\n\n"
        if self.server.mode == "long line":
            events[2] = b"data: " + b"x" * (2 << 20) + b"\n\n"
        if self.server.mode != "stops":
            events.append(b"data: [DONE]\n\n")
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")


def change(number, **fields):
    return lambda answer: answer["outputs"][number].update(fields)


WRONG = {
    "another output": change(0, name="weights"),
    "an output twice": change(0, name="p"),
    "another type": change(0, datatype="FP64"),
    "another rank": change(1, shape=[1, 1, 2]),
    "a shape that is not there": change(1, shape=[10**9, 10**9]),
    "a missing output": lambda answer: answer["outputs"].pop(),
    "no outputs": lambda answer: answer.pop("outputs"),
    "texts": change(1, data=["a", "b"]),
}


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up is what some of these tests do."""


@contextmanager
def running(model, *, context=None):
    server = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.model, server.mode, server.binary, server.seen = model, None, True, []
    backends = []
    server.stop = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    scheme = "https" if context else "http"
    base = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    try:
        yield SimpleNamespace(
            server=server,
            oip=f"oip+{base}/m",
            openai=f"openai+{base}/v1#m",
            backends=backends,
        )
    finally:
        for backend in backends:
            backend.close()
        server.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def cancer():
    rows, labels = datasets.load_breast_cancer(return_X_y=True)
    return rows / rows.max(0), labels


@pytest.fixture(scope="module")
def model(cancer):
    return linear.LogisticRegression().fit(*cancer)


@pytest.fixture
def upstream(model):
    with running(model) as place:
        yield place


def predictor(place, **options):
    place.backends.append(connect(place.oip, **options))
    return place.backends[-1]


def texts(place, **options):
    place.backends.append(connect(place.openai, **options))
    return place.backends[-1]


@pytest.mark.parametrize("binary", [True, False])
def test_a_model_behind_a_server_answers_as_it_does_itself(upstream, model, cancer, binary):
    upstream.server.binary = binary
    backend = predictor(upstream)
    assert isinstance(backend, Predictor)
    assert backend.platform == "sklearn"
    assert backend.inputs == (Spec("X", "FP64", (-1, 30)),)
    answer = backend.predict({"X": cancer[0][:9]})
    assert (answer["label"] == model.predict(cancer[0][:9])).all()
    assert answer["p"] == pytest.approx(model.predict_proba(cancer[0][:9]))
    body = upstream.server.seen[-1][2]
    assert (struct.pack("<d", cancer[0][0, 0]) in body) == binary


def test_threads_have_connections_of_their_own(upstream, model, cancer):
    backend = predictor(upstream)
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda n: backend.predict({"X": cancer[0][n : n + 3]}), range(40))
        for number, answer in enumerate(answers):
            assert (answer["label"] == model.predict(cancer[0][number : number + 3])).all()


def test_a_connection_that_was_closed_while_idle_is_made_again(upstream, cancer):
    backend = predictor(upstream)
    for mode in ("closing", None, "closing", "closing"):
        upstream.server.mode = mode
        assert backend.predict({"X": cancer[0][:1]})["label"].shape == (1,)


@pytest.mark.parametrize("mode", [*WRONG, "header"])
def test_a_wrong_answer_is_the_server_s_fault(upstream, cancer, mode):
    upstream.server.binary = mode == "header"
    backend = predictor(upstream)
    upstream.server.mode = mode
    with pytest.raises(PeerMisbehaved, match="wrong"):
        backend.predict({"X": cancer[0][:2]})
    upstream.server.mode = None
    assert backend.predict({"X": cancer[0][:2]})["label"].shape == (2,)


MODES = {
    400: FormatError,
    422: FormatError,
    404: PeerMisbehaved,
    500: PeerMisbehaved,
    "redirect": PeerMisbehaved,
    "not http": PeerMisbehaved,
    "cut off": CountersealError,
    "slow": TimedOut,
    "dripping": TimedOut,
    "endless": PeerMisbehaved,
}


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_fails_is_one_error_without_its_words(upstream, cancer, mode, monkeypatch):
    monkeypatch.setattr(servers, "_PIECE", 1 << 20)
    backend = predictor(upstream, timeout=0.4 if mode in {"slow", "dripping"} else 20)
    backend._server._answer_bytes = 1 << 20
    upstream.server.mode = mode
    began = time.monotonic()
    with pytest.raises(MODES[mode]) as caught:
        backend.predict({"X": cancer[0][:2]})
    assert time.monotonic() - began < 15
    assert isinstance(caught.value, FormatError) == (mode in {400, 422})
    assert ("without an end" in caught.value.message) == (mode == "endless")
    said = f"{caught.value.message} {caught.value.hint}"
    assert not any(word in said for word in ("layer_7", "/srv", "127.0.0.1", "elsewhere"))


def test_a_server_that_is_not_there_is_dropped(model, cancer):
    with running(model) as place:
        backend = predictor(place)
    with pytest.raises(Dropped):
        backend.predict({"X": cancer[0][:1]})
    with pytest.raises(Dropped):
        predictor(place)


@pytest.mark.parametrize("mode", ["no metadata", "bf16"])
def test_a_model_that_does_not_describe_itself_is_refused(upstream, mode):
    upstream.server.mode = mode
    with pytest.raises(PeerMisbehaved, match=r"the upstream server: the (server|model)"):
        predictor(upstream)


def test_metadata_that_is_none_is_refused():
    for body in (b"", b"[]", b'{"inputs": 7}'):
        with pytest.raises(FormatError):
            oip_client.decode_metadata(body)


# Texts


def test_texts_and_chats_are_answered(upstream):
    backend = texts(upstream)
    assert isinstance(backend, TextModel)
    assert isinstance(backend, ChatModel)
    vectors, tokens = backend.embed(["a", "bbb"])
    assert vectors.tolist() == [[1, 0.5], [3, 0.5]]
    assert vectors.dtype == np.float32
    assert tokens == 7 <= backend.count_tokens(["a", "bbb"])
    assert backend.complete(PROMPT) == Completion("you said hello", 5, 3, "stop")
    asked = json.loads(upstream.server.seen[-1][2])
    assert asked == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0,
    }


def test_a_stream_comes_in_pieces_and_ends_with_what_it_used(upstream):
    pieces = list(texts(upstream).stream(PROMPT))
    assert pieces == [
        Piece("you "),
        Piece("said "),
        Piece("hello"),
        Piece("", finish_reason="length", prompt_tokens=5, completion_tokens=3),
    ]
    assert json.loads(upstream.server.seen[-1][2])["stream_options"] == {"include_usage": True}


def test_a_stream_may_be_left_early(upstream):
    stream = texts(upstream).stream(PROMPT)
    assert next(stream) == Piece("you ")
    stream.close()


@pytest.mark.parametrize(
    ("mode", "error"),
    [("stops", Dropped), ("bad chunk", PeerMisbehaved), ("long line", PeerMisbehaved), (500, PeerMisbehaved), (400, FormatError)],
)  # fmt: skip
def test_a_stream_that_breaks_never_looks_whole(upstream, mode, error):
    backend = texts(upstream)
    upstream.server.mode = mode
    seen = []
    with pytest.raises(error):
        seen.extend(backend.stream(PROMPT))
    assert not any(piece.finish_reason for piece in seen)


@pytest.mark.parametrize(
    "mode", ["missing vector", "other width", "infinite vector", "two choices"]
)
def test_a_wrong_text_answer_is_the_server_s_fault(upstream, mode):
    backend = texts(upstream)
    upstream.server.mode = mode
    with pytest.raises(PeerMisbehaved):
        backend.complete(PROMPT) if mode == "two choices" else backend.embed(["a", "b"])


# Addresses, keys, certificates


def test_the_key_comes_from_a_file_and_goes_to_the_server_only(upstream, tmp_path):
    path = tmp_path / "key"
    path.write_text("sk-123\n")
    backend = texts(upstream, key_file=path)
    backend.embed(["a"])
    assert upstream.server.seen[-1][1]["Authorization"] == "Bearer sk-123"
    assert "sk-123" not in repr(backend._server)
    for wrong in ("", "a b", "a\r\nX: y", "ü", "x" * 5000):
        path.write_bytes(wrong.encode())
        with pytest.raises(FormatError, match="API key"):
            texts(upstream, key_file=path)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/m",
        "oip+ftp://127.0.0.1/m",
        "oip+https:///m",
        "oip+https://host/",
        "oip+https://host:99999/m",
        "openai+https://host/v1",
        "oip+https://user:secret@host/m",
        "oip+https://host/m?key=secret",
        "oip+https://host/a\r\nb",
        "oip+http://models.example/m",
        "oip+http://10.0.0.7/m",
        "openai+http://127.0.0.1.example/v1#m",
        "oip+http://[::2]/m",
    ],
)
def test_an_address_that_is_none_or_in_plain_text_is_refused(url):
    with pytest.raises(FormatError) as caught:
        connect(url)
    assert "secret" not in caught.value.message


def test_plain_http_elsewhere_needs_the_owner_s_word():
    assert servers.Address.parse(
        "oip+http://10.0.0.7:8000/a/m", allow_plain=True
    ) == servers.Address("oip", "10.0.0.7", 8000, "/a", "m", plain=True)
    for here in ("127.0.0.1", "127.8.8.8", "[::1]", "localhost"):
        assert servers.Address.parse(f"oip+http://{here}/m").plain


def certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "models")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused(model, cancer, tmp_path):
    path = certificate(tmp_path)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(path)
    with running(model, context=ours) as place:
        with pytest.raises(TrustError, match="not valid"):
            predictor(place)
        private = ssl.create_default_context(cafile=path)
        backend = predictor(place, context=private)
        assert backend.predict({"X": cancer[0][:1]})["label"].shape == (1,)
        with pytest.raises(TrustError):
            connect(place.oip.replace("127.0.0.1", "localhost"), context=private)
        blind = ssl.create_default_context()
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
        with pytest.raises(ValueError, match="is verified"):
            predictor(place, context=blind)
