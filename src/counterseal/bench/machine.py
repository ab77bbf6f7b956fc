"""Where a measurement was made: without this a number means nothing."""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Final

__all__ = ["facts", "free_memory", "load_average"]

# The instructions that decide how fast AES-GCM, BLAKE3 and SHA-256 can be.
_FLAGS: Final = ("aes", "vaes", "vpclmulqdq", "avx2", "avx512f", "sha_ni", "hypervisor")
_PACKAGES: Final = ("cryptography", "blake3", "msgspec", "rfc8785", "click")
_PEERS: Final = ("numpy", "torch", "safetensors", "pyOpenSSL", "paho-mqtt")
_PROGRAMS: Final = ("cp", "age", "mosquitto")


def facts() -> dict[str, Any]:
    cpu = _table(Path("/proc/cpuinfo"))
    has = set(cpu.get("flags", "").split())
    return {
        "cpu": cpu.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "flags": {flag: flag in has for flag in _FLAGS},
        "memory_bytes": _meminfo("MemTotal"),
        "kernel": platform.release(),
        "huge_pages": _huge_pages(),
        "python": platform.python_version(),
        "openssl_of_hashlib": ssl.OPENSSL_VERSION,
        "versions": {name: _version(name) for name in (*_PACKAGES, *_PEERS)},
        "programs": {name: _program(name) for name in _PROGRAMS},
    }


def load_average() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]


def free_memory() -> int:
    return _meminfo("MemAvailable")


def _table(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _meminfo(name: str) -> int:
    return int(_table(Path("/proc/meminfo")).get(name, "0 kB").split()[0]) * 1024


def _huge_pages() -> str | None:
    try:
        return Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().strip()
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _program(name: str) -> str | None:
    path = shutil.which(name)
    if path is None:
        return None
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    line = next(iter(done.stdout.splitlines()), "").strip()
    return line.removeprefix(name).strip()
