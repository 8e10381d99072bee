"""Signs the text of a version answer with Python's `cryptography` and a key made for it.

    sign_answer.py ZONE TEXT

Prints the public key in base64 and the whole text, one a line.
"""

import base64
import hashlib
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def main(zone, text):
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    text += " k=" + hashlib.sha256(public).hexdigest()[:8]
    signature = key.sign(b"ondat-telemetry version answer v1\0" + zone.encode() + b"\0" + text.encode())
    print(base64.b64encode(public).decode())
    print(text + " g=" + base64.urlsafe_b64encode(signature).decode().rstrip("="))


main(*sys.argv[1:])
