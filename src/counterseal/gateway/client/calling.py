"""Calls within a session: arrays in, arrays out; every call is remembered for the witness.

Before a request leaves, its record id is written down (`Memory.made`): the ledger may have it
before we have the answer. With the answer comes the record's key, and with it the commitments
that the ledger must show are ours to compute.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from urllib.parse import quote

import msgspec

from counterseal.errors import Dropped, FormatError, PeerMisbehaved, ReplayedMessage
from counterseal.gateway import oip_client
from counterseal.gateway.client.line import Line, Reply, context_of
from counterseal.gateway.elements import read_json
from counterseal.gateway.refusals import PROBLEM_BYTES, from_problem
from counterseal.gateway.tensors import DATATYPES, numpy
from counterseal.ledger.entry import ID_BYTES
from counterseal.ledger.witness import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from counterseal.gateway.client.opening import Opened
    from counterseal.gateway.oip_client import Metadata

__all__ = ["Answered", "Memory", "Model", "NoMemory", "Session", "Usage"]

RETRY_SECONDS: Final = 5.0  # the longest wait that is worth it
SECONDS: Final = 60.0
_LENGTH: Final = "inference-header-content-length"
_TAKEN: Final = 409  # sent again after a lost connection: the first one was taken
_KEY: Final = re.compile(r"[0-9a-f]{64}\Z")


class _Answer(msgspec.Struct):
    model_name: str
    model_version: str


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Embedded(msgspec.Struct):
    data: list[_Vector]


class _Quota(msgspec.Struct):
    unit: str
    period: str
    used: int
    count: int


class _Usage(msgspec.Struct):
    quotas: list[_Quota]


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_EMBEDDED: Final = msgspec.json.Decoder(_Embedded)
_USAGES: Final = msgspec.json.Decoder(list[_Usage])


class Memory(Protocol):
    """Where calls are remembered until the ledger was seen to have them."""

    def keep(self, call: Call) -> None: ...

    def drop(self, call: str) -> None:
        """It was refused: no answer will come."""
        ...


class NoMemory:
    def keep(self, call: Call) -> None:
        del call

    def drop(self, call: str) -> None:
        del call


@dataclass(frozen=True, slots=True)
class Answered:
    """`record`: the id under which the ledger has this call."""

    outputs: Mapping[str, Any]
    record: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used under the charter, by everybody. `remaining`: by unit and period."""

    facts: Mapping[str, Any]

    @property
    def remaining(self) -> dict[tuple[str, str], int]:
        return {
            (one["unit"], one["period"]): max(0, one["count"] - one["used"])
            for one in self.facts["quotas"]
        }


class Session:
    """An open session. Thread-safe; close it, or use it as a context."""

    def __init__(
        self,
        opened: Opened,
        *,
        memory: Memory | None = None,
        clock: Callable[[], float] = time.time,
        seconds: float = SECONDS,
    ) -> None:
        self.opened = opened
        self._memory = memory or NoMemory()
        self._clock = clock
        tls = context_of(opened.authority, opened.pem)
        self._line = Line(opened.host, opened.port, tls, seconds=seconds)

    def model(self, name: str, version: str | None = None) -> Model:
        """A model of the charter. `version`: a number or an alias [what the owner chooses]."""
        return Model(self, name, version)

    def embed(self, model: str, texts: Sequence[str], *, purpose: str | None = None) -> Any:
        """One vector for each text: an array (n, d)."""
        body = msgspec.json.encode(
            {"model": model, "input": list(texts), "encoding_format": "float"}
        )
        reply, _ = self.call("/v1/embeddings", body, {"content-type": "application/json"}, purpose)
        said = _read(reply, _EMBEDDED)
        return numpy().array([one.embedding for one in said.data], dtype="f4")

    @property
    def usage(self) -> Usage:
        reply = self.get("/usage")
        if not _read(reply, _USAGES):
            raise PeerMisbehaved("the gateway says nothing about this charter's usage")
        return Usage(msgspec.json.decode(reply.body)[0])

    def get(self, path: str) -> Reply:
        """Ask for something that changes nothing. Raises what the gateway says."""
        return _good(self._line.ask("GET", path, headers=self._headers()))

    def send(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Change something of ours. Raises what the gateway says."""
        headers = {**self._headers(), "content-type": "application/json"}
        return _good(self._line.ask(method, path, body=body, headers=headers))

    def fetch(self, path: str) -> bytes:
        """A static resource of the charter's ledger (`ledger.reader.Fetch`)."""
        where = f"/counterseal/v1/ledgers/{self.opened.charter}/{quote(path)}"
        reply = self._line.ask("GET", where, headers=self._headers())
        if reply.status == 404:
            raise FileNotFoundError(path)
        return _good(reply).body

    def call(
        self, path: str, body: bytes, headers: Mapping[str, str], purpose: str | None = None
    ) -> tuple[Reply, str]:
        """One governed call; the reply and its record id. Waits once where that helps soon."""
        for last in (False, True):
            record = os.urandom(ID_BYTES)
            made = Call.made(record, time=int(self._clock()))
            self._memory.keep(made)
            sent = {
                **self._headers(),
                **headers,
                "counterseal-record": record.hex(),
                "counterseal-purpose": purpose or self.opened.purpose or "",
            }
            reply = self._line.ask("POST", path, body=body, headers=sent)
            if reply.status == 200:
                self._memory.keep(_answered(made, reply, body))
                return reply, record.hex()
            if reply.status < 500 and reply.status != _TAKEN:  # else the ledger may have it
                self._memory.drop(made.id)
            wait = _wait_of(reply)
            if last or wait is None:
                break
            time.sleep(wait)
        try:
            _good(reply)
        except ReplayedMessage:
            raise Dropped(
                "the connection was lost during a call, and its answer with it",
                hint="the ledger has the call: it was counted",
            ) from None
        raise PeerMisbehaved(f"the gateway answered with {reply.status}")

    def close(self) -> None:
        """Let go of the connections; the session itself ends by its time, or by `end`."""
        self._line.close()

    def end(self) -> None:
        """End the session at the gateway."""
        self.send("DELETE", f"/counterseal/v1/sessions/{self.opened.grant.session}")

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.opened.grant.token}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session at {self.opened.host}:{self.opened.port}>"


class Model:
    """One model of a session: `predict`."""

    def __init__(self, session: Session, name: str, version: str | None) -> None:
        self._session, self.name, self._version = session, name, version
        self._metadata: Metadata | None = None

    @property
    def path(self) -> str:
        version = "" if self._version is None else f"/versions/{quote(self._version, safe='')}"
        return f"/v2/models/{quote(self.name, safe='')}{version}"

    def metadata(self) -> Metadata:
        """What the model takes and gives; asked for once."""
        if self._metadata is None:
            self._metadata = oip_client.decode_metadata(self._session.get(self.path).body)
        return self._metadata

    def predict(self, inputs: Any, *, purpose: str | None = None) -> Any:
        """An array, or a dict of them by input name. Gives the output, or a dict of several."""
        outputs = self.ask(inputs, purpose=purpose).outputs
        return next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)

    def ask(self, inputs: Any, *, purpose: str | None = None) -> Answered:
        """The same, with the record id under which the ledger has the call."""
        arrays = self._arrays(inputs if isinstance(inputs, dict) else self._named(inputs))
        body, length = oip_client.encode_question(arrays, binary=True)
        headers = {"content-type": "application/octet-stream", _LENGTH: str(length)}
        reply, record = self._session.call(f"{self.path}/infer", body, headers, purpose)
        said = reply.headers.get(_LENGTH, "")
        head = int(said) if said.isdigit() and len(said) < 12 else None
        try:
            outputs = oip_client.decode_answer(
                reply.body, self.metadata().outputs, header_length=head
            )
            told = read_json(_ANSWER, reply.body[:head])
        except FormatError as error:
            raise PeerMisbehaved(f"the gateway's answer cannot be read: {error.message}") from None
        return Answered(outputs, record, told.model_name, told.model_version)

    def _named(self, array: Any) -> dict[str, Any]:
        """For a model with one input."""
        inputs = self.metadata().inputs
        if len(inputs) != 1:
            names = ", ".join(one.name for one in inputs)
            raise FormatError("the model has several inputs", hint=f"give a dict of {names}")
        return {inputs[0].name: array}

    def _arrays(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """As the model takes them: the gateway converts nothing."""
        np = numpy()
        kinds = {one.name: one.datatype for one in self.metadata().inputs}
        return {
            name: np.asarray(value).astype(DATATYPES[kinds[name]], copy=False)
            if kinds.get(name, "BYTES") != "BYTES"
            else np.asarray(value)
            for name, value in arrays.items()
        }


def _answered(made: Call, reply: Reply, body: bytes) -> Call:
    key = reply.headers.get("counterseal-record-key", "")
    if reply.headers.get("counterseal-record") != made.id or not _KEY.match(key):
        raise PeerMisbehaved(
            "the answer comes without a receipt for this call",
            hint="what was sent stands in the ledger, or should: counterseal session verify",
        )
    return made.answered(bytes.fromhex(key), input=body, output=reply.body)


def _wait_of(reply: Reply) -> float | None:
    """Seconds after which it may be sent again; None if that would not help, or not soon."""
    text = reply.headers.get("retry-after", "")
    if reply.status not in {429, 503} or not text.isdigit() or len(text) > 6:
        return None
    return float(text) if int(text) <= RETRY_SECONDS else None


def _read(reply: Reply, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return read_json(decoder, reply.body)
    except FormatError as error:
        raise PeerMisbehaved(f"the gateway's answer cannot be read: {error.message}") from None


def _good(reply: Reply) -> Reply:
    if reply.status != 200:
        raise from_problem(reply.status, reply.body[:PROBLEM_BYTES])
    return reply
