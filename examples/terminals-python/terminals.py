#!/usr/bin/env python3
"""Terminals that log in to channels with tokens of their own, one connection at a time each. docs/plugins.md goes
through it."""

import argparse
import hashlib
import json
import logging
import os
import re
import secrets
import signal
import stat
import sys
import threading
from concurrent import futures

import grpc

import authenticator_pb2 as pb

WORD = re.compile(r"[A-Za-z0-9_-]{1,32}")
FILE_MAX = 4 << 20
# Questions at a time: as many as authd asks (`concurrent`), and the rest of them wait.
QUESTIONS_MAX = 16
REQUEST_MAX = 16 << 10

log = logging.getLogger("terminals")


class Register:
    """Which terminals there are: a file of JSON, {SHA-256 of the token: {"terminal": "7", "group": "3"}}."""

    def __init__(self, path):
        self.path = path

    def read(self):
        """What the file holds now: a terminal that is taken out logs in no more."""
        file = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o027:
                raise ValueError(f"{self.path} must be root's or this user's, and nobody else's to read or write")
            text = file.read(FILE_MAX + 1)
        if len(text) > FILE_MAX:
            raise ValueError(f"{self.path} is longer than {FILE_MAX} bytes")
        return json.loads(text)

    def find(self, token):
        """Whose token it is. It is looked up by its hash, so the time says nothing about the tokens that there are."""
        return self.read().get(hashlib.sha256(token.encode()).hexdigest())

    def add(self, terminal, group):
        """A new terminal's token, which is written down nowhere else."""
        if not WORD.fullmatch(terminal) or not WORD.fullmatch(group):
            raise ValueError("a terminal and a group are 1 to 32 of A-Z a-z 0-9 _ -")
        all_of_them = self.read() if os.path.exists(self.path) else {}
        token = secrets.token_urlsafe(32)
        all_of_them[hashlib.sha256(token.encode()).hexdigest()] = {"terminal": terminal, "group": group}
        new = self.path + ".new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            json.dump(all_of_them, file)
            file.flush()
            os.fsync(file.fileno())
        # Whole or not at all: it is read at every login.
        os.replace(new, self.path)
        return token


def token_of(credentials):
    """What the client proves itself with: {"token": T}, or as a back end of the token API {"username", "password"}."""
    credentials = json.loads(credentials)
    token = credentials.get("token", credentials.get("password"))
    if not isinstance(token, str) or not 1 <= len(token) <= 128:
        raise ValueError("no token")
    token.encode()  # Half of a surrogate is no text: a ValueError, too.
    return token, credentials.get("username")


def authenticate(register, request):
    """Who it is, or why nobody. What is wrong with this program is told by an exception, never by a refusal."""

    def refused(why):
        return pb.AuthenticateReply(refused=pb.Refused(why=why))

    try:
        token, username = token_of(request.credentials)
    except (ValueError, AttributeError, RecursionError):
        return refused("no token in the credentials")
    known = register.find(token)
    if known is None:
        return refused("no such token")
    terminal, group = known["terminal"], known["group"]
    identity = pb.Identity(
        pk=terminal,
        uuid=f"terminal-{terminal}",
        name=f"Terminal {terminal}",
        # Of these it has what `acl_max` of authd's configuration grants, too.
        acl=[f"ws.group.{group}.subscribe", f"ws.terminal.{terminal}.action.status"],
        only_one=True,
    )
    if username not in (None, identity.uuid):
        return refused("another terminal's token")
    log.info("%s from %.60r", identity.uuid, request.peer.address)
    return pb.AuthenticateReply(identity=identity)


def serve(register, socket):
    """Listens on `socket`, and returns the server; stop(grace) ends it."""
    # grpcio cannot tell who is at the other end: nobody but authd's group may get to the socket.
    directory = os.stat(os.path.dirname(socket))
    if stat.S_IMODE(directory.st_mode) & 0o027 or directory.st_uid not in (0, os.geteuid()):
        raise SystemExit(f"the directory of {socket} must be this user's, its group authd's, its mode 0710")

    def answer(request, context):
        try:
            return authenticate(register, request)
        except Exception:
            # The words of a fault are for this log. authd tells the client that it is not available.
            log.exception("a fault")
            context.abort(grpc.StatusCode.INTERNAL, "a fault")

    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=QUESTIONS_MAX),
        options=[("grpc.max_receive_message_length", REQUEST_MAX), ("grpc.max_concurrent_streams", 64)],
    )
    rpc = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=pb.AuthenticateRequest.FromString,
        response_serializer=pb.AuthenticateReply.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler("doorward.authenticator.v1.Authenticator", {"Authenticate": rpc})
    server.add_generic_rpc_handlers((handler,))
    # Whoever gets through the directory may connect.
    before = os.umask(0o111)
    try:
        if server.add_insecure_port(f"unix:{socket}") == 0:
            raise SystemExit(f"cannot listen on {socket}")
    finally:
        os.umask(before)
    server.start()
    return server


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--socket", default="/run/terminals/auth/auth.sock")
    options.add_argument("--register", default="/var/lib/terminals/terminals.json")
    options.add_argument("--add", nargs=2, metavar=("TERMINAL", "GROUP"), help="add a terminal and print its token")
    options = options.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    register = Register(options.register)
    if options.add:
        print(register.add(*options.add))
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = serve(register, options.socket)
    print("ready", flush=True)
    stop.wait()
    server.stop(grace=1).wait()


if __name__ == "__main__":
    main()
