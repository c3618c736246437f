"""Who is calling, by authd's signed word: a JWT of at most 60 seconds, for one audience.

One algorithm, one issuer, one key; what the token says of itself is only compared. Whatever is wrong: NotBelieved.
"""

import os
import stat
import threading
import time

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

import acl

JWT_MAX = 16 * 1024
LIFE_SECONDS = 60
# The kind of the users of the host.
USER = "user"
CLOCK_STEP_SECONDS = 5
USED_MAX = 10_000
USED_BY_ONE = 2_500


class NotBelieved(Exception):
    """The assertion is not authd's, not for this service, or not valid now."""


class NoUser(Exception):
    """The caller is believed, and is no user of this host, whom alone this service knows."""


class NoKey(Exception):
    """authd's public key cannot be read, so nobody can be believed."""


class Full(Exception):
    """Too many assertions were used within a minute."""


class Caller:
    """A caller, as authd says: a user of the host, or somebody of another kind, who has a pk and no uid."""

    def __init__(self, claims):
        self.user = claims["sub"]
        self.uid = claims.get("uid")
        self.kind = claims.get("kind", USER)
        self.pk = claims.get("pk")
        self.full = claims["access"] == "full"
        self.auth_id = claims["auth_id"]
        self.acl = claims["acl"]
        self.session = claims["sid"]
        self.jti = claims["jti"]
        self.issued = claims["iat"]
        self.expires = claims["exp"]

    def may(self, subject):
        """Whether the ACL grants this subject: sysadm.NAMESPACE.NAME.ACTION."""
        return acl.granted(self.acl, subject, self.auth_id, self.session)


class Verifier:
    """Believes authd, by the key in `path`, for one audience: NAMESPACE/NAME of a subsystem, channel/NAME of a handler."""

    def __init__(self, path, authd_uid, audience):
        self.path, self.authd_uid, self.audience = path, authd_uid, audience

    def user(self, token, now=None):
        """The same for a service whose callers are users of this host."""
        caller = self.caller(token, now)
        if caller.uid is None:
            raise NoUser(caller.user)
        return caller

    def caller(self, token, now=None):
        """Who is calling."""
        now = int(time.time()) if now is None else now
        if len(token) > JWT_MAX:
            raise NotBelieved("too long")
        key = self._key()
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=self.audience,
                issuer="doorward-authd",
                # The times are judged below, by one clock.
                options={
                    "require": ["iss", "aud", "sub", "iat", "exp", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        # Nesting is read, and may be too deep, before a signature is looked at.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise NotBelieved(str(error)) from error
        self._shape(claims)
        life = claims["exp"] - claims["iat"]
        if now >= claims["exp"] or not 0 <= life <= LIFE_SECONDS or claims["iat"] > now + CLOCK_STEP_SECONDS:
            raise NotBelieved("not valid now")
        return Caller(claims)

    def _shape(self, claims):
        def word(value):
            return isinstance(value, str) and 1 <= len(value) <= 64 and all("!" <= c <= "~" for c in value)

        def whole(value):
            return isinstance(value, int) and not isinstance(value, bool)

        def text(value, most):
            return (
                isinstance(value, str)
                and 1 <= len(value.encode()) <= most
                and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value)
            )

        user, kind, uid, pk = claims["sub"], claims.get("kind", USER), claims.get("uid"), claims.get("pk")
        if kind == USER:
            known = text(user, 256) and "/" not in user and not user.startswith("-") and pk is None
            known = known and whole(uid) and 0 <= uid < 2**32
        else:
            known = word(kind) and uid is None and text(pk, 128) and user == f"{kind}/{claims.get('auth_id')}"
        entries = claims.get("acl")
        good = (
            claims["aud"] == self.audience
            and known
            and whole(claims["iat"])
            and whole(claims["exp"])
            and all(word(claims.get(name)) for name in ("auth_id", "sid", "method", "jti"))
            and claims.get("access") in ("full", "limited")
            and isinstance(entries, list)
            and all(isinstance(entry, str) for entry in entries)
        )
        if not good:
            raise NotBelieved("a claim is malformed")

    def _key(self):
        """Read each time: a key that authd has replaced is believed no more from then on."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, self.authd_uid):
                    raise NoKey(f"{self.path} is not root's or authd's")
                if found.st_mode & 0o022:
                    raise NoKey(f"{self.path} can be written by others")
                key = load_pem_public_key(os.read(file, 4096))
            finally:
                os.close(file)
        except (OSError, ValueError) as error:
            raise NoKey(f"{self.path}: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise NoKey(f"{self.path} is no Ed25519 key")
        return key


class Used:
    """An assertion is good for one call that writes. Which were used, until they are over."""

    def __init__(self, started=None):
        # Whoever remembers nothing of the time before must not believe what was signed in it, nor in this second.
        self.started = int(time.time()) if started is None else started
        self.forgotten = 0
        self.entries = {}
        self.of_user = {}
        self.lock = threading.Lock()

    def await_first(self):
        """Waits until the second of the start is over: whatever is signed for an answering subsystem is good."""
        time.sleep(min(1.0, max(0.0, self.started + 1.005 - time.time())))

    def take(self, caller, now=None):
        now = int(time.time()) if now is None else now
        with self.lock:
            self._forget(now)
            # What is over by a time that was seen stays over, also when the clock steps back.
            if caller.issued <= self.started or caller.expires <= self.forgotten or caller.jti in self.entries:
                raise NotBelieved("used")
            if len(self.entries) >= USED_MAX or self.of_user.get(caller.user, 0) >= USED_BY_ONE:
                raise Full()
            self.entries[caller.jti] = (caller.expires, caller.user)
            self.of_user[caller.user] = self.of_user.get(caller.user, 0) + 1

    def _forget(self, now):
        # In the order in which they came, which is nearly that in which they end: each lives 60 seconds at most.
        while self.entries:
            jti, (expires, user) = next(iter(self.entries.items()))
            if expires > now:
                return
            del self.entries[jti]
            self.forgotten = max(self.forgotten, expires)
            self.of_user[user] -= 1
            if self.of_user[user] == 0:
                del self.of_user[user]
