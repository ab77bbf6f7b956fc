"""MQTT 5 and 3.1.1, as paho wants them said.

Version 3.1.1 is for brokers that know no other, such as amqtt. It has no expiry, no limit of
size or number, and no answer that nobody listens; what is lost by that is repeated anyway.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from counterseal._extras import require

__all__ = ["Dialect"]

RECEIVE_MAXIMUM: Final = 32  # messages that the broker may have unacknowledged with us
UNANSWERED: Final = 64  # messages of quality 1 that wait for the broker in our memory


class Dialect:
    """`keep`: seconds that the broker is to keep our session; 0 for a session of no importance."""

    def __init__(self, version: Literal["5", "3.1.1"], *, keep: int, packet_bytes: int) -> None:
        self._paho: Any = require("paho.mqtt.client", extra="mqtt")
        self._modern = version == "5"
        self._keep, self._packet_bytes = keep, packet_bytes

    def client(self, name: str) -> Any:
        paho = self._paho
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=name,
            clean_session=None if self._modern else not self._keep,
            protocol=paho.MQTTv5 if self._modern else paho.MQTTv311,
            reconnect_on_failure=False,  # it would go down to MQTT 3.1 unasked
            manual_ack=True,
        )
        client.max_queued_messages_set(UNANSWERED)
        return client

    def properties(self, packet: str, **values: int) -> Any:
        if not self._modern:
            return None
        properties = self._paho.Properties(getattr(self._paho.PacketTypes, packet))
        for name, value in values.items():
            setattr(properties, name, value)
        return properties

    def greeting(self) -> dict[str, Any]:
        """A session goes on if it can: what waited for us comes, and we are still subscribed."""
        if not self._modern:
            return {}
        properties = self.properties(
            "CONNECT",
            SessionExpiryInterval=self._keep,
            ReceiveMaximum=RECEIVE_MAXIMUM,
            MaximumPacketSize=self._packet_bytes,
        )
        return {"clean_start": False, "properties": properties}

    def farewell(self, *, forget: bool) -> Any:
        return self.properties("DISCONNECT", SessionExpiryInterval=0 if forget else self._keep)

    def subscription(self, topics: dict[str, tuple[int, bool]]) -> list[tuple[str, Any]]:
        """(quality, whether retained messages are wanted) for each topic; never a wildcard."""
        if not self._modern:
            return [(topic, qos) for topic, (qos, _) in topics.items()]
        options = require("paho.mqtt.subscribeoptions", extra="mqtt").SubscribeOptions
        return [
            (topic, options(qos=qos, noLocal=True, retainHandling=0 if retained else 2))
            for topic, (qos, retained) in topics.items()
        ]

    def full(self, sent: Any) -> bool:
        return bool(sent.rc == self._paho.MQTT_ERR_QUEUE_SIZE)
