"""Letters and blocks through a broker: MQTT 5 over TLS, for partners who cannot reach each other.

    topics.py      what is published where
    messages.py    the bytes of it
    sender.py      which block to push next, and again; with wanted.py and pace.py
    receiver.py    what is there, what is still wanted
                   both pure: no clock, no socket
    connection.py  paho, one connection, no thread; with broker.py and dialect.py
    delivery.py    the sender's work on a connection, fetching.py the receiver's; with line.py
    mail.py        letters that wait
    transport.py   all of it as a `Transport`

A broker is allowed to lose messages without a word, and does: at its queue limits, for a slow
reader, when it restarts. So nothing here is believed because the broker took it. The receiver
says what it has, the sender repeats exactly what is missing, whatever quality of service was
promised (SPEC 14.4).
"""

from __future__ import annotations

from counterseal.exchange.transports.mqtt.transport import MqttTransport

__all__ = ["MqttTransport"]
