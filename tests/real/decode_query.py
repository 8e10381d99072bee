"""Reads the name of a version query with Python's own base32hex, SHA-256 and HMAC.

    decode_query.py NAME ZONE CLUSTER_ID NODE_ID

Prints one JSON object: what the name says, and the ids that the raw ids must have become.
"""

import base64
import hashlib
import hmac
import json
import sys


def hkdf_sha256(ikm, info):
    """RFC 5869 with an empty salt, 32 bytes."""
    prk = hmac.new(b"\0" * 32, ikm, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\1", hashlib.sha256).digest()


def base32hex(label):
    return base64.b32hexdecode(label.upper() + "=" * (-len(label) % 8))


def main(name, zone, cluster_id, node_id):
    labels, suffix = name.split(".")[:2], ".".join(name.split(".")[2:])
    assert suffix.rstrip(".") == "o1." + zone, suffix
    blob_label, version_label = labels
    assert len(blob_label) == 63, len(blob_label)
    blob = base32hex(blob_label)
    assert len(blob) == 39, len(blob)
    check = hashlib.sha256(b"ondat-telemetry o1" + blob[:35] + version_label.encode()).digest()[:4]

    key = hkdf_sha256(cluster_id.encode(), b"ondat-telemetry identity v1")

    def anonymised(purpose, raw):
        return hmac.new(key, purpose + b"\0" + raw.encode(), hashlib.sha256).hexdigest()[:32]

    print(json.dumps({
        "format": blob[0],
        "cluster": blob[1:17].hex(),
        "node": blob[17:33].hex(),
        "day": int.from_bytes(blob[33:35], "big"),
        "check_holds": blob[35:] == check,
        "version": base32hex(version_label).decode(),
        "expected_cluster": anonymised(b"cluster", cluster_id),
        "expected_node": anonymised(b"node", node_id),
    }))


main(*sys.argv[1:])
