"""Takes crash reports on loopback. Prints its port, then a line for each request: when all of it had come
(CLOCK_MONOTONIC, ns), its body's bytes. Ends when its standard input does.

    receiver.py plain | tls CERTIFICATE KEY | slow | hanging
"""

import gc
import os
import socket
import ssl
import sys
import threading
import time

SLOW = 2.0

kind = sys.argv[1]
context = None
if kind == "tls":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
hanging = []


def serve(sender):
    try:
        if context:
            sender = context.wrap_socket(sender, server_side=True)
        request = b""
        while b"\r\n\r\n" not in request:
            request += sender.recv(65536) or sys.exit()
        head, body = request.split(b"\r\n\r\n", 1)
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        while len(body) < length:
            body += sender.recv(65536) or sys.exit()
        came = time.monotonic_ns()
        print(came, length, flush=True)
        if kind == "slow":
            time.sleep(SLOW)
        sender.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        sender.close()
    except OSError:
        pass


def accept(listener):
    while True:
        sender, _ = listener.accept()
        if kind == "hanging":
            hanging.append(sender)
        elif kind == "slow":
            threading.Thread(target=serve, args=(sender,), daemon=True).start()
        else:
            serve(sender)


listener = socket.create_server(("127.0.0.1", 0), backlog=512)
print(listener.getsockname()[1], flush=True)
gc.disable()
threading.Thread(target=accept, args=(listener,), daemon=True).start()
sys.stdin.read()
os._exit(0)
