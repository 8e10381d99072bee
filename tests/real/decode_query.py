"""Reads the name of a version query with Python's own base32hex and SHA-256, a sealed one with `cryptography`'s HPKE.

    decode_query.py NAME ZONE [VERSION_SEAL_KEY_FILE]

Prints what the name says as one JSON object.
"""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives import hpke

SEALED, SEALED_BYTES = 2, 88


def base32hex(text):
    return base64.b32hexdecode(text.upper() + "=" * (-len(text) % 8))


def opened(sealed, key_file):
    with open(key_file, encoding="utf-8") as file:
        private = base64.b64decode(json.load(file)["private"], validate=True)
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    key = x25519.X25519PrivateKey.from_private_bytes(private)
    return suite.decrypt(sealed, key, b"ondat-telemetry version query v1")


def main(name, zone, key_file=None):
    labels, suffix = name.rstrip(".").split(".o1.", 1)
    assert suffix == zone, suffix
    *blob_labels, version_label = labels.split(".")
    lengths = [len(label) for label in blob_labels]
    blob = base32hex("".join(blob_labels))
    is_sealed = blob[0] == SEALED
    if is_sealed:
        assert lengths == [63, 63, 15] and len(blob) == SEALED_BYTES, (lengths, len(blob))
        blob = opened(blob[1:], key_file)
    else:
        assert lengths == [63], lengths
    assert len(blob) == 39, len(blob)
    check = hashlib.sha256(b"ondat-telemetry o1" + blob[:35] + version_label.encode()).digest()[:4]
    print(json.dumps({
        "sealed": is_sealed,
        "format": blob[0],
        "cluster": blob[1:17].hex(),
        "node": blob[17:33].hex(),
        "day": int.from_bytes(blob[33:35], "big"),
        "check_holds": blob[35:] == check,
        "version": base32hex(version_label).decode(),
    }))


main(*sys.argv[1:])
