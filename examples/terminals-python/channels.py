#!/usr/bin/env python3
"""What terminals hear and say on the channels `group` and `terminal`. docs/channel-handlers.md goes through it."""

import argparse
import json
import logging
import pwd
import secrets
import threading

import grpc

import assertion
import channel_pb2 as pb
import serving
from terminals import Register

# The channel of what is said to a group of terminals: its pk is the group's number.
GROUP = "group"
# The channel of single terminals, and what the identities that log in as one are called by authd's configuration.
TERMINAL = "terminal"
STATUS_MAX = 2_048
# As many as the gateway asks at a time.
QUESTIONS_MAX = 64
# An assertion, and a message of a terminal's. Longer ones, which staff may want to publish, are refused.
REQUEST_MAX = 128 << 10
STAFF = "a user of the host with full access"

log = logging.getLogger("channels")


class Channels:
    """The five methods. Each says what the answer is for whoever asks, by authd's word: a terminal of the register, STAFF,
    or nobody (None)."""

    def __init__(self, register, key, authd_uid):
        self.register = register
        # A word for one channel is none for the other.
        self.verifiers = {
            channel: assertion.Verifier(key, authd_uid, f"channel/{channel}") for channel in (GROUP, TERMINAL)
        }
        # Of the terminals that were there since the start, of which there are no more than the register had. Of its
        # connections only the newest counts, because authd ends the others: see `only_one`.
        self.presence, self.status = {}, {}
        self.lock = threading.Lock()

    def who(self, asked):
        if asked.channel not in self.verifiers:
            raise assertion.NotBelieved("there is no such channel here")
        caller = self.verifiers[asked.channel].caller(asked.assertion)
        if caller.kind == TERMINAL:
            # As it is in there now: it may have been taken out, or moved to another group.
            return self.register.terminal(caller.pk)
        return STAFF if caller.uid is not None and caller.full else None

    def hears(self, who, asked):
        """The pks. The gateway gives it the one that it has asked for, or all of them if it asked for none."""
        if who == STAFF:
            return [asked.pk] if asked.HasField("pk") else []
        if who is None:
            return []
        return [who["group"] if asked.channel == GROUP else who["terminal"]]

    def can_subscribe(self, request):
        return pb.CanSubscribeReply(pks=self.hears(self.who(request.asked), request.asked))

    def can_publish(self, request):
        """Terminals have their status for that."""
        return pb.CanPublishReply(allowed=self.who(request.asked) == STAFF and request.asked.HasField("pk"))

    def on_message(self, request):
        asked, who = request.asked, self.who(request.asked)
        if asked.channel != TERMINAL or request.action not in ("status", "look"):
            return pb.MessageReply(unsupported=pb.Unsupported())
        if not asked.HasField("pk") or asked.pk not in self.hears(who, asked):
            return pb.MessageReply(forbidden=pb.Forbidden())
        if request.action == "look":
            with self.lock:
                online, status = asked.pk in self.presence, self.status.get(asked.pk)
            return told({"online": online, "status": status})
        if who == STAFF:
            return pb.MessageReply(forbidden=pb.Forbidden())
        return self.take_status(who, request.message)

    def take_status(self, who, text):
        """{"action": "status", "channel": "terminal", "pk": "7", "status": {...}}"""
        if len(text) > STATUS_MAX:
            return told({"error": "the message is longer than 2048 bytes", "code": 400})
        try:
            status = json.loads(text).get("status")
            news = to_json({"terminal": who["terminal"], "status": status})
        except (ValueError, AttributeError, RecursionError):
            status = None
        if not isinstance(status, dict):
            return told({"error": "status must be an object", "code": 400})
        with self.lock:
            self.status[who["terminal"]] = status
        # Who looks after this one terminal hears it, and the whole group does.
        at = ((TERMINAL, who["terminal"]), (GROUP, who["group"]))
        return told({"status": "taken"}, [pb.Publication(channel=c, pk=pk, message=news) for c, pk in at])

    def on_online(self, request):
        """What is answered comes back with the end of that connection."""
        who = self.who(request.asked)
        if who in (None, STAFF):
            return pb.OnlineReply()
        presence = secrets.token_bytes(16)
        with self.lock:
            self.presence[who["terminal"]] = presence
        return pb.OnlineReply(presence=presence)

    def on_offline(self, request):
        """Maybe after a newer one has come. Nobody vouches for this but the gateway: it is believed about what it was
        given."""
        with self.lock:
            for terminal, presence in list(self.presence.items()):
                if presence == request.presence:
                    del self.presence[terminal]
        return pb.OfflineReply()


def to_json(value):
    # What is no text, as half of a surrogate pair, or no number, is a ValueError.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def told(reply, publications=()):
    return pb.MessageReply(handled=pb.Handled(reply=to_json(reply), publications=publications))


def answering(method):
    """What goes wrong is told in the words that the gateway understands, and in no others."""

    def answer(request, context):
        try:
            return method(request)
        except assertion.NotBelieved:
            # The gateway comes again, with a new one.
            code, sentence = grpc.StatusCode.UNAUTHENTICATED, "the assertion is not believed"
        except assertion.NoKey as error:
            log.error("%s", error)
            code, sentence = grpc.StatusCode.UNAVAILABLE, "authd's public key cannot be read"
        except Exception:
            log.exception("a fault")
            code, sentence = grpc.StatusCode.INTERNAL, "a fault"
        context.abort(code, sentence)

    return answer


def serve(channels, socket):
    methods = {
        "CanSubscribe": (channels.can_subscribe, pb.CanSubscribeRequest, pb.CanSubscribeReply),
        "CanPublish": (channels.can_publish, pb.CanPublishRequest, pb.CanPublishReply),
        "OnMessage": (channels.on_message, pb.MessageRequest, pb.MessageReply),
        "OnOnline": (channels.on_online, pb.OnlineRequest, pb.OnlineReply),
        "OnOffline": (channels.on_offline, pb.OfflineRequest, pb.OfflineReply),
    }
    methods = {name: (answering(method), request, reply) for name, (method, request, reply) in methods.items()}
    return serving.serve(socket, "doorward.channel.v1.ChannelHandler", methods, QUESTIONS_MAX, REQUEST_MAX)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--socket", default="/run/terminals/channels/channels.sock")
    options.add_argument("--register", default="/var/lib/terminals/terminals.json")
    options.add_argument("--authd", default="doorward-authd", help="whose the key may be: a user or a uid")
    options.add_argument("--key", default="/run/doorward/authd/assertion.pub", help="authd's public key")
    options = options.parse_args()
    authd = int(options.authd) if options.authd.isdecimal() else pwd.getpwnam(options.authd).pw_uid
    channels = Channels(Register(options.register), options.key, authd)
    serving.run(lambda: serve(channels, options.socket))


if __name__ == "__main__":
    main()
