"""SipHash: the published vectors, and a plain implementation on Python's integers."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assocmem.core.siphash import siphash

# Of the reference implementation (github.com/veorq/SipHash, vectors.h): key 00 01 ... 0f, message 00 01 ..., by length.
VECTORS = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4",
    7: "a1f1ebbed8dbc153c0b84aa61ff08239",
    8: "3b62a9ba6258f5610f83e264f31497b4",
    9: "264499060ad9baabc47f8b02bb6d71ed",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
    16: "6ee2a4ca67b054bbfd3315bf85230577",
    63: "5150d1772f50834a503e069a973fbd7c",
}
REFERENCE_KEY = bytes(range(16))
MASK = 2**64 - 1


def naive(key, message):
    """The definition, word by word; returns 16 bytes."""
    k = [int.from_bytes(key[i : i + 8], "little") for i in (0, 8)]
    constants = 0x736F6D6570736575, 0x646F72616E646F6D ^ 0xEE, 0x6C7967656E657261, 0x7465646279746573
    v = [constant ^ k[i % 2] for i, constant in enumerate(constants)]

    def turned(word, bits):
        return (word << bits | word >> (64 - bits)) & MASK

    def rounds(n):
        for _ in range(n):
            for a, b, bits, turn_a in ((0, 1, 13, True), (2, 3, 16, False), (0, 3, 21, False), (2, 1, 17, True)):
                v[a] = (v[a] + v[b]) & MASK
                v[b] = turned(v[b], bits) ^ v[a]
                v[a] = turned(v[a], 32) if turn_a else v[a]

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xEE
    rounds(4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    rounds(4)
    return (first | (v[0] ^ v[1] ^ v[2] ^ v[3]) << 64).to_bytes(16, "little")


def hashed(key, messages):
    """Hash byte strings of any lengths in one call; returns 16 bytes each."""
    lengths = np.array([len(message) for message in messages], np.int64)
    width = 8 * (int(lengths.max(initial=0)) // 8 + 1)
    table = np.frombuffer(b"".join(message.ljust(width, b"\xff") for message in messages), "<u8")
    hashes = siphash(table.reshape(len(messages), -1).astype(np.uint64), lengths, np.frombuffer(key, "<u8"))
    return [row.astype("<u8").tobytes() for row in hashes]


@pytest.mark.parametrize("length", VECTORS)
def test_published_vectors(length):
    message = bytes(range(length))
    assert naive(REFERENCE_KEY, message).hex() == VECTORS[length]
    assert hashed(REFERENCE_KEY, [message])[0].hex() == VECTORS[length]


@given(key=st.binary(min_size=16, max_size=16), messages=st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_it_is_the_definition_whatever_the_neighbours_and_the_padding(key, messages):
    assert hashed(key, messages) == [naive(key, message) for message in messages]


def test_lengths_beyond_the_message_are_refused():
    with pytest.raises(ValueError, match="1 lengths from 0 to 16"):
        siphash(np.zeros((1, 2), np.uint64), np.array([17]), np.zeros(2, np.uint64))


def test_as_plain_python_without_a_warning():
    program = "import numpy, assocmem.core.siphash as s; k = numpy.arange(2, dtype=numpy.uint64); "
    program += "print(s.siphash(numpy.full((3, 5), 2**64 - 1, numpy.uint64), numpy.array([40, 37, 3]), k).tolist())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    expected = siphash(np.full((3, 5), MASK, np.uint64), np.array([40, 37, 3]), np.arange(2, dtype=np.uint64))
    assert run.stdout.strip() == str(expected.tolist())
