"""Changes a sealed report in every way there is and tries to open it, with the `cryptography` package alone.

    tamper_report.py REPORT.otr PRIVATE_KEY_FILE

Writes one JSON object to standard output: how many changes of each kind were made, and by what they were noticed. A
change that went unnoticed ends it.
"""

import collections
import json
import struct
import sys

from cryptography.exceptions import InvalidTag
from open_report import CHUNK_BYTES, ENC_BYTES, HEADER, TAG_BYTES, open_report, read_key

# What the fields of the header are for: where they begin and end.
HEADER_FIELDS = {
    "magic": (0, 4),
    "key id": (4, 12),
    "kem": (12, 14),
    "kdf": (14, 16),
    "aead": (16, 18),
    "report id": (18, 34),
    "day": (34, 36),
    "flags": (36, 37),
}


def split(report):
    """The header, the encapsulated key, and the chunks with their lengths before them."""
    at = HEADER.size + ENC_BYTES[HEADER.unpack_from(report)[2]]
    head, chunks = report[:at], []
    while at < len(report):
        (length,) = struct.unpack_from(">I", report, at)
        chunks.append(report[at : at + 4 + length])
        at += 4 + length
    return head, chunks


def flipped(report, at, bits):
    return report[:at] + bytes([report[at] ^ bits]) + report[at + 1 :]


def changes_of_bytes(report):
    """Every bit of the header, every byte of the encapsulated key and the lengths, and bytes of all ciphertexts."""
    for field, (begin, end) in HEADER_FIELDS.items():
        for at in range(begin, end):
            for bit in range(8):
                yield f"header: {field}", flipped(report, at, 1 << bit)
    head, chunks = split(report)
    for at in range(HEADER.size, len(head)):
        # The highest bit of an X25519 key is one that the key exchange itself does not look at.
        for bits in (0x01, 0x80):
            yield "encapsulated key", flipped(report, at, bits)
    at = len(head)
    for chunk in chunks:
        for offset in range(4):
            yield "length", flipped(report, at + offset, 0x01)
        for offset in (4, 5, len(chunk) // 2, len(chunk) - TAG_BYTES - 1, len(chunk) - TAG_BYTES, len(chunk) - 1):
            yield "ciphertext", flipped(report, at + offset, 0x01)
        at += len(chunk)


def changes_of_chunks(report):
    """Chunks swapped, dropped, duplicated, cut, joined and added, with and without a header that fits them."""
    head, chunks = split(report)
    for first in range(len(chunks)):
        for second in range(first + 1, len(chunks)):
            swapped = list(chunks)
            swapped[first], swapped[second] = chunks[second], chunks[first]
            yield "swapped", swapped
        yield "dropped", chunks[:first] + chunks[first + 1 :]
        yield "duplicated", chunks[: first + 1] + chunks[first:]
        yield "repeated at the end", chunks + [chunks[first]]
        yield "alone", [chunks[first]] if len(chunks) > 1 else []
        yield "truncated after", chunks[:first]
        ciphertext = chunks[first][4:]
        for length in (0, 1, TAG_BYTES, len(ciphertext) // 2, len(ciphertext) - 1):
            cut = struct.pack(">I", length) + ciphertext[:length]
            yield "cut", chunks[:first] + [cut] + chunks[first + 1 :]
    for empty in (b"", bytes(TAG_BYTES), bytes(CHUNK_BYTES + TAG_BYTES)):
        yield "added", chunks + [struct.pack(">I", len(empty)) + empty]
        yield "added", [struct.pack(">I", len(empty)) + empty] + chunks


def changes(report):
    yield from changes_of_bytes(report)
    head, chunks = split(report)
    for kind, changed in changes_of_chunks(report):
        changed = b"".join(changed)
        yield f"chunk {kind}", head + changed
        flags = HEADER.size - 1
        yield f"chunk {kind}, flag changed", flipped(head, flags, 0x01) + changed
    # The end of the file anywhere in the header, and anywhere around the beginnings and ends of the rest.
    ends = set(range(len(head) + 8)) | {len(report) - cut for cut in range(1, 2 * TAG_BYTES + 8)}
    at = len(head)
    for chunk in chunks[:-1]:
        at += len(chunk)
        ends |= set(range(at - TAG_BYTES - 1, at + 8))
    for end in sorted(end for end in ends if end < len(report)):
        yield "file cut off", report[:end]
    for more in (b"\0", bytes(4), bytes(100)):
        yield "file continued", report + more


def main(report_file, key_file):
    key = read_key(key_file)
    with open(report_file, "rb") as file:
        report = file.read()
    plaintext, facts = open_report(report, key)
    assert plaintext.startswith(b'{"schema":"ondat-report/1"'), plaintext[:40]

    noticed = collections.defaultdict(collections.Counter)
    for kind, changed in changes(report):
        assert changed != report, kind
        try:
            open_report(changed, key)
        except InvalidTag:
            noticed[kind]["seal"] += 1
        # What cannot even be read: no such suite, no such key, not so many bytes.
        except (AssertionError, KeyError, ValueError, struct.error) as why:
            noticed[kind][type(why).__name__] += 1
        else:
            sys.exit(f"a changed report opens: {kind}")
    json.dump({"chunks": facts["chunks"], "noticed": noticed}, sys.stdout)


main(*sys.argv[1:])
