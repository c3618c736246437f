#!/usr/bin/env python3
"""The subsystem example/notes: everybody who may keeps notes in its memory. docs/subsystems.md goes through it."""

import argparse
import json
import logging
import pwd
import signal
import sys
import threading

from doorward_subsystem import Failure, Subsystem, serve

NOTES_MAX = 1_000
# As JSON: the list of all is an answer, which is at most 1 MiB.
NOTES_BYTES_MAX = 900 << 10
subsystem = Subsystem("example", "notes", "1.0", "Keeps notes")
subsystem.event("note-added", "Somebody added a note: who, and how many there are")
notes, lock = [], threading.Lock()
notes_bytes = 0


@subsystem.read("list", "All notes")
def list_notes(_call, _args):
    with lock:
        return {"notes": list(notes)}


@subsystem.write("add", "Adds a note: args {\"note\": TEXT}")
def add(call, args):
    global notes_bytes
    note = args.get("note") if isinstance(args, dict) else None
    if not isinstance(note, str) or not 1 <= len(note) <= 200:
        raise Failure(400, "args/note must be a text of 1 to 200 characters")
    added = {"by": call.caller.user, "note": note}
    length = len(json.dumps(added)) + len(", ")
    with lock:
        if len(notes) >= NOTES_MAX or notes_bytes + length > NOTES_BYTES_MAX:
            raise Failure(429, "there are enough notes")
        notes.append(added)
        notes_bytes += length
        count = len(notes)
    subsystem.publish("note-added", {"by": call.caller.user, "count": count})
    return {"count": count}


@subsystem.read("count", "Counts to args {\"to\": N}, and tells each step", streams=True)
def count(call, args):
    to = args.get("to") if isinstance(args, dict) else None
    if not isinstance(to, int) or not 0 <= to <= 1_000_000:
        raise Failure(400, "args/to must be a number up to 1000000")
    step = 0
    try:
        while step < to:
            if call.wait(0.01):
                raise Failure(408, "nobody waits any more")
            step += 1
            yield {"step": step}
        return {"counted": step}
    finally:
        logging.info("count: ended at %s", step)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--socket", default="/run/doorward/notes/notes.sock")
    options.add_argument("--key", default="/run/doorward/authd/assertion.pub", help="authd's public key")
    options.add_argument("--authd", default="doorward-authd", help="whose the key may be: a user or a uid")
    options = options.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    authd = int(options.authd) if options.authd.isdecimal() else pwd.getpwnam(options.authd).pw_uid
    # Blocked before there are other threads: a handler would run only in the main thread, which a signal that another
    # thread gets does not wake.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    server = serve(subsystem, options.socket, options.key, authd)
    print("ready", flush=True)
    signal.sigwait(signals)
    server.stop(grace=1).wait()


if __name__ == "__main__":
    main()
