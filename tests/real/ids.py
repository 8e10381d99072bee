"""Anonymised ids, made with Python's own HMAC and SHA-256.

    ids.py CLUSTER_ID NODE_ID

Prints what the two become outside a process, as one JSON object.
"""

import hashlib
import hmac
import json
import sys


def hkdf_sha256(ikm, info):
    """RFC 5869 with an empty salt, 32 bytes."""
    prk = hmac.new(b"\0" * 32, ikm, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\1", hashlib.sha256).digest()


def main(cluster_id, node_id):
    key = hkdf_sha256(cluster_id.encode(), b"ondat-telemetry identity v1")

    def anonymised(purpose, raw):
        return hmac.new(key, purpose + b"\0" + raw.encode(), hashlib.sha256).hexdigest()[:32]

    print(json.dumps({"cluster": anonymised(b"cluster", cluster_id), "node": anonymised(b"node", node_id)}))


main(*sys.argv[1:])
