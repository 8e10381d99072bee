"""Reads the name of a version query with Python's own base32hex and SHA-256.

    decode_query.py NAME ZONE

Prints what the name says as one JSON object.
"""

import base64
import hashlib
import json
import sys


def base32hex(label):
    return base64.b32hexdecode(label.upper() + "=" * (-len(label) % 8))


def main(name, zone):
    blob_label, version_label, suffix = name.rstrip(".").split(".", 2)
    assert suffix == "o1." + zone, suffix
    assert len(blob_label) == 63, len(blob_label)
    blob = base32hex(blob_label)
    assert len(blob) == 39, len(blob)
    check = hashlib.sha256(b"ondat-telemetry o1" + blob[:35] + version_label.encode()).digest()[:4]
    print(json.dumps({
        "format": blob[0],
        "cluster": blob[1:17].hex(),
        "node": blob[17:33].hex(),
        "day": int.from_bytes(blob[33:35], "big"),
        "check_holds": blob[35:] == check,
        "version": base32hex(version_label).decode(),
    }))


main(*sys.argv[1:])
