"""Calls within a session: what is remembered of them, and what a gateway may answer."""

import asyncio

import msgspec
import pytest
from gateway import Town, onnx_model

from counterseal.errors import (
    CharterDenied,
    Dropped,
    FormatError,
    PeerMisbehaved,
    QuotaExceeded,
)
from counterseal.gateway.client.aio import AsyncSession
from counterseal.gateway.client.calling import Session, Usage
from counterseal.gateway.client.line import Reply
from counterseal.gateway.refusals import refusal

np = pytest.importorskip("numpy")
pytest.importorskip("skl2onnx")

KEY = "ab" * 32


class Said:
    """Instead of the line: answers as it was told to, with a receipt for what was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def ask(self, method, path, *, body=None, headers=None, **_):
        self.asked.append((method, path, headers))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, more, data = answer
        receipt = {"counterseal-record": (headers or {}).get("counterseal-record", "")}
        if status == 200:
            receipt["counterseal-record-key"] = KEY
        return Reply(status, {**receipt, **more}, data)

    def close(self):
        pass


class Remembers:
    def __init__(self):
        self.calls, self.kept = {}, []

    def keep(self, call):
        self.kept.append(call)
        self.calls[call.id] = call

    def drop(self, call):
        self.calls.pop(call, None)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A session as a real gateway gave it."""
    from counterseal.crypto.tls_authority import TlsKey
    from counterseal.gateway.client.opening import Opened
    from counterseal.gateway.session import SessionGrant

    with Town(tmp_path_factory.mktemp("town")) as town:
        gate = town.open()
        key = TlsKey.create()
        grant = gate.office.open_session(gate.ask(key=key))
        return Opened(
            kind="session", format=1, host="localhost", port=1, owner="11" * 32, us="22" * 32,
            charter=town.chain.charter.id, purpose="diagnosis", role="analyst",
            authority=gate.authority.certificate, key=key.pem,
            grant=msgspec.json.decode(grant, type=SessionGrant),
        )  # fmt: skip


@pytest.fixture
def session(opened):
    def make(*answers):
        made = Session(opened, memory=Remembers(), clock=lambda: 1000.0)
        made._line = Said(*answers)
        return made

    return make


def no(error, status, **headers):
    return status, headers, refusal(error).body(None)


def call(session, **more):
    return session.call("/v2/models/scan/infer", b"in", {}, **more)


def test_a_call_is_remembered_before_it_leaves_and_when_it_is_answered(session):
    one = session((200, {}, b"out"))
    reply, record = call(one)
    made, answered = one._memory.kept
    assert (made.id, made.commit_in, made.time) == (record, None, 1000)
    assert answered.commit_in
    assert answered.commit_out
    assert reply.body == b"out"


def test_a_call_that_was_lost_stays_remembered(session):
    one = session(Dropped("lost"))
    with pytest.raises(Dropped):
        call(one)
    assert len(one._memory.calls) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429])
def test_a_call_that_was_refused_is_forgotten(session, status):
    one = session(no(CharterDenied("no"), status))
    with pytest.raises(CharterDenied):
        call(one)
    assert one._memory.calls == {}


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_call_that_failed_may_stand_in_the_ledger(session, status):
    one = session(no(CharterDenied("no"), status))
    with pytest.raises(CharterDenied):
        call(one)
    assert len(one._memory.calls) == 1


def test_a_call_that_was_taken_before_its_connection_was_lost_stays_remembered(session):
    from counterseal.errors import ReplayedMessage

    one = session(no(ReplayedMessage("came before"), 409))
    with pytest.raises(Dropped, match="its answer with it"):
        call(one)
    assert len(one._memory.calls) == 1


def test_it_waits_once_where_that_helps_soon(session):
    wait = no(QuotaExceeded("rate", retry_at=None), 429, **{"retry-after": "0"})
    one = session(wait, (200, {}, b"out"))
    assert call(one)[0].body == b"out"
    records = [headers["counterseal-record"] for _, _, headers in one._line.asked]
    assert len(set(records)) == 2
    again = session(wait, wait)
    with pytest.raises(QuotaExceeded):
        call(again)


@pytest.mark.parametrize("after", ["", "6", "3600", "-1", "soon", "9" * 50])
def test_it_does_not_wait_for_long(session, after):
    one = session(no(QuotaExceeded("rate", retry_at=None), 429, **{"retry-after": after}))
    with pytest.raises(QuotaExceeded):
        call(one)


def test_the_sessions_purpose_is_declared_unless_another_is(session):
    one = session((200, {}, b""), (200, {}, b""))
    call(one)
    call(one, purpose="research")
    said = [headers["counterseal-purpose"] for _, _, headers in one._line.asked]
    assert said == ["diagnosis", "research"]


@pytest.mark.parametrize(
    "headers",
    [
        {"counterseal-record": "00" * 16},
        {"counterseal-record": ""},
        {"counterseal-record-key": ""},
        {"counterseal-record-key": "zz" * 32},
        {"counterseal-record-key": KEY.upper()},
        {"counterseal-record-key": KEY + "00"},
    ],
)
def test_an_answer_without_its_receipt_is_refused(session, headers):
    with pytest.raises(PeerMisbehaved, match="without a receipt"):
        call(session((200, headers, b"out")))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b'[{"quotas": 7}]', b"\xff", b"[7]"])
def test_a_usage_that_is_none_is_refused(session, data):
    with pytest.raises(PeerMisbehaved):
        _ = session((200, {}, data)).usage


@pytest.mark.parametrize("data", [b"", b"{}", b'{"data": [{"embedding": "x"}]}', b'{"data": 7}'])
def test_embeddings_that_are_none_are_refused(session, data):
    with pytest.raises(PeerMisbehaved):
        session((200, {}, data)).embed("words", ["one"])


def test_embeddings_are_an_array(session):
    said = b'{"data": [{"embedding": [1, 2]}, {"embedding": [3, 4]}]}'
    assert session((200, {}, said)).embed("words", ["a", "b"]).tolist() == [[1, 2], [3, 4]]


def test_what_is_left_is_never_less_than_nothing():
    quotas = [{"unit": "rows", "period": "day", "used": 9, "count": 7}]
    assert Usage({"quotas": quotas}).remaining == {("rows", "day"): 0}


METADATA = msgspec.json.encode(
    {
        "name": "scan",
        "versions": ["1.0.0"],
        "platform": "onnx",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 30]}],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}],
    }
)


def answer(**changes):
    said = {
        "model_name": "scan",
        "model_version": "1.0.0",
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]}],
        **changes,
    }
    return msgspec.json.encode(said)


def test_arrays_go_in_and_come_out(session):
    one = session((200, {}, METADATA), (200, {}, answer()))
    rows = onnx_model()[1][:2].astype("f8")  # the client converts: the gateway does not
    found = one.model("scan").ask(rows)
    assert found.outputs["label"].tolist() == [1, 0]
    assert (found.model, found.version) == ("scan", "1.0.0")
    assert found.record == one._line.asked[-1][2]["counterseal-record"]


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        answer(outputs=[]),
        answer(outputs=[{"name": "other", "datatype": "INT64", "shape": [1], "data": [1]}]),
        answer(outputs=[{"name": "label", "datatype": "FP32", "shape": [1], "data": [1]}]),
        answer(outputs=[{"name": "label", "datatype": "INT64", "shape": [1 << 40], "data": [1]}]),
        answer(model_name=7),
    ],
)
def test_an_answer_that_is_not_the_models_is_refused(session, data):
    with pytest.raises(PeerMisbehaved):
        session((200, {}, METADATA), (200, {}, data)).model("scan").predict(onnx_model()[1][:2])


def test_a_model_with_several_inputs_is_asked_by_name(session):
    two = msgspec.json.decode(METADATA)
    two["inputs"].append({"name": "Y", "datatype": "FP32", "shape": [-1]})
    one = session((200, {}, msgspec.json.encode(two)))
    with pytest.raises(FormatError, match="several inputs"):
        one.model("scan").predict(onnx_model()[1])


def test_names_cannot_leave_their_place_in_a_path(session):
    path = session().model("../../usage", "1/../x").path
    assert path == "/v2/models/..%2F..%2Fusage/versions/1%2F..%2Fx"


def test_a_session_does_not_show_its_token(session, opened):
    assert opened.grant.token not in repr(session())
    assert opened.grant.token not in repr(opened)
    assert opened.key.decode() not in repr(opened)


def test_the_same_nouns_for_asyncio(session):
    one = session((200, {}, METADATA), (200, {}, answer()), (200, {}, b'[{"quotas": []}]'))

    async def use():
        async with AsyncSession(one) as many:
            label = await many.model("scan").predict(onnx_model()[1][:2])
            return label, await many.usage()

    label, usage = asyncio.run(use())
    assert label.tolist() == [1, 0]
    assert usage.remaining == {}
