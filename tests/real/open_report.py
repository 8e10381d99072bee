"""Opens a sealed report with the `cryptography` package alone, by docs/protocols.md and RFC 9180.

    open_report.py REPORT.otr PRIVATE_KEY_FILE

Writes the plaintext to standard output and one JSON object about the file to standard error. What fits into one chunk
is opened twice, by RFC 9180 spelled out and by the package's own HPKE; several chunks by the former.
"""

import base64
import hashlib
import json
import struct
import sys
import zlib

from cryptography.hazmat.primitives import hashes, hmac, hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HEADER = struct.Struct(">4s8sHHH16sHB")
X25519, X_WING = 0x0020, 0x647A
HKDF_SHA256, AES_256_GCM = 0x0001, 0x0002
ENC_BYTES = {X25519: 32, X_WING: 1120}
CHUNK_BYTES = 65536
TAG_BYTES = 16


def public_bytes(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def extract(salt, ikm):
    mac = hmac.HMAC(salt or b"\0" * 32, hashes.SHA256())
    mac.update(ikm)
    return mac.finalize()


def labeled_extract(salt, suite, label, ikm):
    return extract(salt, b"HPKE-v1" + suite + label + ikm)


def labeled_expand(prk, suite, label, info, length):
    info = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, info).derive(prk)


def x_wing_keys(seed):
    """draft-connolly-cfrg-xwing-kem, 5.2: the private key is a seed for both parts."""
    expanded = hashlib.shake_256(seed).digest(96)
    mlkem_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    return mlkem_key, x25519.X25519PrivateKey.from_private_bytes(expanded[64:])


def x25519_secret(seed, enc):
    """RFC 9180, 4.1."""
    private = x25519.X25519PrivateKey.from_private_bytes(seed)
    kem = b"KEM" + struct.pack(">H", X25519)
    shared = private.exchange(x25519.X25519PublicKey.from_public_bytes(enc))
    prk = labeled_extract(b"", kem, b"eae_prk", shared)
    return labeled_expand(prk, kem, b"shared_secret", enc + public_bytes(private), 32)


def x_wing_secret(seed, enc):
    """draft-connolly-cfrg-xwing-kem, 5.5."""
    mlkem_key, private = x_wing_keys(seed)
    mlkem_shared = mlkem_key.decapsulate(enc[:-32])
    shared = private.exchange(x25519.X25519PublicKey.from_public_bytes(enc[-32:]))
    label = b"\\.//^\\"
    return hashlib.sha3_256(mlkem_shared + shared + enc[-32:] + public_bytes(private) + label).digest()


class Recipient:
    """RFC 9180, 5.1 and 5.2: base mode, several messages."""

    def __init__(self, kem, seed, enc, info):
        shared = {X25519: x25519_secret, X_WING: x_wing_secret}[kem](seed, enc)
        suite = b"HPKE" + struct.pack(">HHH", kem, HKDF_SHA256, AES_256_GCM)
        psk_id_hash = labeled_extract(b"", suite, b"psk_id_hash", b"")
        context = b"\0" + psk_id_hash + labeled_extract(b"", suite, b"info_hash", info)
        secret = labeled_extract(shared, suite, b"secret", b"")
        self.aead = AESGCM(labeled_expand(secret, suite, b"key", context, 32))
        self.base_nonce = int.from_bytes(labeled_expand(secret, suite, b"base_nonce", context, 12), "big")
        self.sequence = 0

    def open(self, ciphertext, aad):
        nonce = (self.base_nonce ^ self.sequence).to_bytes(12, "big")
        self.sequence += 1
        return self.aead.decrypt(nonce, ciphertext, aad)


def single_shot(kem, seed, sealed, info):
    """The package's own HPKE."""
    if kem == X_WING:
        private, kem = hpke.MLKEM768X25519PrivateKey(*x_wing_keys(seed)), hpke.KEM.MLKEM768_X25519
    else:
        private, kem = x25519.X25519PrivateKey.from_private_bytes(seed), hpke.KEM.X25519
    return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM).decrypt(sealed, private, info)


def open_report(report, key):
    magic, key_id, kem, kdf, aead, report_id, day, flags = HEADER.unpack_from(report)
    assert magic == b"OTR1" and (kdf, aead) == (HKDF_SHA256, AES_256_GCM), (magic, kdf, aead)
    info = b"ondat-telemetry report v1\0" + report[: HEADER.size]
    enc = report[HEADER.size : HEADER.size + ENC_BYTES[kem]]

    chunks, at = [], HEADER.size + ENC_BYTES[kem]
    while at < len(report):
        (length,) = struct.unpack_from(">I", report, at)
        chunks.append(report[at + 4 : at + 4 + length])
        assert len(chunks[-1]) == length, "the last chunk is cut off"
        at += 4 + length
    assert chunks, "there is no chunk"

    seed = base64.b64decode(key["private"], validate=True)
    recipient = Recipient(kem, seed, enc, info)
    is_single = flags == 1
    final = len(chunks) - 1
    pieces = [
        recipient.open(chunk, b"final" if number == final and not is_single else b"")
        for number, chunk in enumerate(chunks)
    ]
    assert is_single == (len(chunks) == 1), (flags, len(chunks))
    assert all(len(piece) == CHUNK_BYTES for piece in pieces[:-1]), "a chunk that is not the last is not full"
    padded = b"".join(pieces)
    if is_single:
        assert single_shot(kem, seed, enc + chunks[0], info) == padded

    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    plaintext = inflate.decompress(padded)
    assert inflate.eof, "the gzip member is cut off"
    padding = inflate.unused_data
    assert padding == bytes(len(padding)), "the padding is not zeros"
    facts = {
        "key_id": key_id.hex(),
        "kem": kem,
        "report_id": report_id.hex(),
        "day": day,
        "chunks": len(chunks),
        "padded": len(padded),
        "padding": len(padding),
    }
    return plaintext, facts


def read_key(key_file):
    with open(key_file, encoding="utf-8") as file:
        return json.load(file)


def main(report_file, key_file):
    key = read_key(key_file)
    with open(report_file, "rb") as file:
        report = file.read()
    plaintext, facts = open_report(report, key)
    seed = base64.b64decode(key["private"], validate=True)
    if facts["kem"] == X25519:
        public = public_bytes(x25519.X25519PrivateKey.from_private_bytes(seed))
    else:
        public = b"".join(public_bytes(part) for part in x_wing_keys(seed))
    facts["key_id_holds"] = hashlib.sha256(public).digest()[:8].hex() == facts["key_id"]
    sys.stdout.buffer.write(plaintext)
    print(json.dumps(facts), file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
