"""Invisible salamanders: one AES-GCM ciphertext that is valid under two keys.

Dodis, Grubbs, Ristenpart, Woodage, "Fast Message Franking" (2018); Len, Grubbs, Ristenpart,
"Partitioning Oracle Attacks" (2021). Two blocks suffice: the first is free, the second solves
the equation that makes both tags equal.
"""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

R = 0xE1 << 120


def _block(key, block):
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)  # noqa: S305


def _times(x, y):
    z = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= y
        y = (y >> 1) ^ R if y & 1 else y >> 1
    return z


def _inverse(x):
    result, exponent = 1 << 127, (1 << 128) - 2
    while exponent:
        if exponent & 1:
            result = _times(result, x)
        x = _times(x, x)
        exponent >>= 1
    return result


def craft(first, second, wanted):
    """`first` and `second` are (key, nonce). Returns 32 bytes of ciphertext and the tag; under
    `first` the plaintext begins with the 16 bytes `wanted`.
    """
    number = lambda data: int.from_bytes(data, "big")  # noqa: E731
    (key1, nonce1), (key2, nonce2) = first, second
    h1, h2 = (number(_block(key, bytes(16))) for key in (key1, key2))
    pad1, pad2 = (
        number(_block(key, nonce + b"\0\0\0\1")) for key, nonce in ((key1, nonce1), (key2, nonce2))
    )
    c1 = number(wanted) ^ number(_block(key1, nonce1 + b"\0\0\0\2"))
    length = 32 * 8
    square1, square2 = _times(h1, h1), _times(h2, h2)
    right = (
        _times(c1, _times(square1, h1) ^ _times(square2, h2))
        ^ _times(length, h1 ^ h2)
        ^ pad1
        ^ pad2
    )
    c2 = _times(right, _inverse(square1 ^ square2))
    tag = _times(c1, _times(square1, h1)) ^ _times(c2, square1) ^ _times(length, h1) ^ pad1
    return b"".join(part.to_bytes(16, "big") for part in (c1, c2, tag))
