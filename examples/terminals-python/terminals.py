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
import stat

import grpc

import authenticator_pb2 as pb
import serving

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

    def terminal(self, number):
        """The terminal with this number, and the group that it is in now."""
        return next((known for known in self.read().values() if known["terminal"] == number), None)

    def add(self, terminal, group):
        """A terminal's new token, which is written down nowhere else, and its group. It has no other any more."""
        if not WORD.fullmatch(terminal) or not WORD.fullmatch(group):
            raise ValueError("a terminal and a group are 1 to 32 of A-Z a-z 0-9 _ -")
        all_of_them = self.read() if os.path.exists(self.path) else {}
        all_of_them = {token: known for token, known in all_of_them.items() if known["terminal"] != terminal}
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
    def answer(request, context):
        try:
            return authenticate(register, request)
        except Exception:
            # The words of a fault are for this log. authd tells the client that it is not available.
            log.exception("a fault")
            context.abort(grpc.StatusCode.INTERNAL, "a fault")

    methods = {"Authenticate": (answer, pb.AuthenticateRequest, pb.AuthenticateReply)}
    return serving.serve(socket, "doorward.authenticator.v1.Authenticator", methods, QUESTIONS_MAX, REQUEST_MAX)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--socket", default="/run/terminals/auth/auth.sock")
    options.add_argument("--register", default="/var/lib/terminals/terminals.json")
    options.add_argument("--add", nargs=2, metavar=("TERMINAL", "GROUP"), help="a terminal's group; prints its new token")
    options = options.parse_args()
    register = Register(options.register)
    if options.add:
        print(register.add(*options.add))
        return
    serving.run(lambda: serve(register, options.socket))


if __name__ == "__main__":
    main()
