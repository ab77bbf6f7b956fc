"""A network on one machine: organizations that see each other only through the middle.

    lab  10.77.1.2 ──┐           ┌── 10.77.2.2  relay: also 10.77.9.9, the address everybody knows
                     ├─ middle ──┤
    clinic 10.77.3.2 ┘           └── (the rival's machines; all packets pass here)

    with Network() as network:
        network.start("lab", [sys.executable, "-m", "counterseal", ...])
        with network.weather(loss=0.02, delay=0.02): ...   # packets are lost and come late
        network.take_over()     # from now on the middle answers for 10.77.9.9

Each is a network namespace with one cable to the middle's, so ports can be the usual ones. The
weather is made by a process that sees every packet through a TUN device: not every kernel has
netem. Needs root; what was made is gone when the context ends, also after an error.

Run as a program, in the namespace of the middle, it is the weather:

    python network.py LOSS DELAY TWICE SEED
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

RELAY = "10.77.9.9"
CABLES = {"lab": "10.77.1", "relay": "10.77.2", "clinic": "10.77.3"}
PLACES = ("middle", *CABLES)
IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
MTU = 9000  # jumbo frames: a tenth of the packets that Python has to look at
TABLE = "7"
_numbers = itertools.count()


def why_not():
    """What is missing for a network; None if nothing is."""
    if IP is None:
        return "Debian's iproute2 is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"counterseal-{os.getpid()}-probe"
    try:
        subprocess.run([IP, "netns", "add", probe], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces: {error.stderr.strip()}"
    _ip("netns", "delete", probe)
    return None


def why_no_weather():
    return None if Path("/dev/net/tun").exists() else "this kernel has no TUN devices"


class Network:
    """Namespaces, cables and routes; a context manager."""

    def __init__(self):
        self._prefix = f"counterseal-{os.getpid()}-{next(_numbers)}"
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for place in PLACES:
                _ip("netns", "add", self._name(place))
                stack.callback(_ip, "netns", "delete", self._name(place))
                self.ip(place, "link", "set", "lo", "up")
            for place, net in CABLES.items():
                self._lay_cable(place, net)
            self.ip("relay", "address", "add", f"{RELAY}/32", "dev", "lo")
            self.ip("middle", "route", "add", RELAY, "via", f"{CABLES['relay']}.2")
            self._write("middle", "net/ipv4/ip_forward", "1")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _lay_cable(self, place, net):
        self.ip(
            "middle", "link", "add", place, "mtu", str(MTU),
            "type", "veth", "peer", "name", "cable", "mtu", str(MTU), "netns", self._name(place),
        )  # fmt: skip
        self.ip("middle", "address", "add", f"{net}.1/24", "dev", place)
        self.ip("middle", "link", "set", place, "up")
        self.ip(place, "address", "add", f"{net}.2/24", "dev", "cable")
        self.ip(place, "link", "set", "cable", "up")
        self.ip(place, "route", "add", "default", "via", f"{net}.1")

    def _name(self, place):
        return f"{self._prefix}-{place}"

    def ip(self, place, *arguments):
        _ip("-netns", self._name(place), *arguments)

    def inside(self, place, command):
        """The command that runs `command` there; it becomes it, so signals reach it."""
        return [IP, "netns", "exec", self._name(place), *map(str, command)]

    def start(self, place, command, **options):
        return subprocess.Popen(self.inside(place, command), **options)

    def _write(self, place, key, value):
        script = f"echo {value} > /proc/sys/{key}"
        subprocess.run(self.inside(place, ["sh", "-c", script]), check=True)

    def take_over(self):
        """The relay's address becomes one of the middle's; it still reaches the relay itself."""
        self.ip("middle", "route", "delete", RELAY)
        self.ip("middle", "address", "add", f"{RELAY}/32", "dev", "lo")

    def give_back(self):
        self.ip("middle", "address", "delete", f"{RELAY}/32", "dev", "lo")
        self.ip("middle", "route", "add", RELAY, "via", f"{CABLES['relay']}.2")

    @contextlib.contextmanager
    def weather(self, *, loss=0.0, delay=0.0, twice=0.0, seed=1):
        """Each packet, each time it passes the middle, is lost with probability `loss`, doubled
        with `twice`, and takes `delay` seconds, or a little more: then others overtake it.
        Afterwards the list that is given holds how many were (seen, lost, doubled).
        """
        counted = []
        command = [sys.executable, __file__, loss, delay, twice, seed]
        process = self.start("middle", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline() == b"ready\n"
            self.ip("middle", "link", "set", "weather", "mtu", str(MTU), "up")
            self.ip("middle", "route", "add", "default", "dev", "weather", "table", TABLE)
            for place in CABLES:
                self.ip("middle", "rule", "add", "iif", place, "lookup", TABLE)
            yield counted
        finally:
            for place in CABLES:
                with contextlib.suppress(subprocess.CalledProcessError):
                    self.ip("middle", "rule", "delete", "iif", place, "lookup", TABLE)
            counted += map(int, process.communicate()[0].split())


def _ip(*arguments):
    subprocess.run([IP, *arguments], check=True)


def make_weather(loss, delay, twice, seed):
    """Every packet that the kernel routes into the device comes out of it again, or does not."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = 0x0001 | 0x1000  # IFF_TUN | IFF_NO_PI
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"weather", flags))  # TUNSETIFF
    print("ready", flush=True)
    rng = random.Random(seed)
    under_way, numbers = [], itertools.count()
    seen = lost = doubled = 0
    while True:
        due = max(under_way[0][0] - time.monotonic(), 0) if under_way else None
        ready, _, _ = select.select([device, sys.stdin], [], [], due)
        if sys.stdin in ready:
            break
        now = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            while ready:
                packet = os.read(device, 65_536)
                seen += 1
                if rng.random() < loss:
                    lost += 1
                    continue
                copies = 1 + (rng.random() < twice)
                doubled += copies - 1
                for _ in range(copies):
                    late = delay * (1 + 0.1 * rng.random())
                    heapq.heappush(under_way, (now + late, next(numbers), packet))
        while under_way and under_way[0][0] <= now:
            with contextlib.suppress(OSError):  # the device is being taken down
                os.write(device, heapq.heappop(under_way)[2])
    print(seen, lost, doubled)


if __name__ == "__main__":
    make_weather(*map(float, sys.argv[1:5]))
