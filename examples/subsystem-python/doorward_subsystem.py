"""Serves doorward.subsystem.v1.Subsystem: what every subsystem owes its callers, for notes.py to build on.

grpcio cannot tell whose process is at the other end of a Unix socket. The socket's directory keeps others out: it
is the subsystem's own, its group is the gateway's, its mode 0710. serve() refuses to start in any other.
"""

import json
import logging
import os
import queue
import stat
import threading
import time
from concurrent import futures

import grpc

import assertion
import subsystem_pb2 as pb

ARGS_MAX = 128 << 10
RESULT_MAX = 1 << 20
PROGRESS_MAX = EVENT_MAX = 64 << 10
CALLS_MAX = 32
CALLS_BY_ONE = CALLS_MAX // 4
DESCRIPTION_MAX = 128 << 10
EVENTS_QUEUE = 1_000
log = logging.getLogger("subsystem")


class Failure(Exception):
    """What a client is told: 400 bad args (the sentence is shown), 403, 404, 429, 500, 503."""

    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = code


class Call:
    """One call: who calls, and whether somebody still waits."""

    def __init__(self, caller, request, context):
        self.caller, self.action, self.request_id = caller, request.action, request.request_id
        self.deadline = time.monotonic() + min(request.deadline_ms, 24 * 3_600_000) / 1000
        self._left = threading.Event()
        # Called at once if the call is over already.
        if not context.add_callback(self._left.set):
            self._left.set()

    def ended(self):
        """A handler asks this between its steps, and returns when it is true: threads cannot be broken off."""
        return self._left.is_set() or time.monotonic() >= self.deadline

    def wait(self, seconds):
        """Waits, or until the call has ended; whether it has."""
        self._left.wait(min(seconds, max(0, self.deadline - time.monotonic())))
        return self.ended()


class Seats:
    """The places of calls that are under way: so many of all, and a part of them of one user."""

    def __init__(self):
        self.all, self.of_user, self.lock = 0, {}, threading.Lock()

    def take(self, user):
        with self.lock:
            if self.all >= CALLS_MAX or self.of_user.get(user, 0) >= CALLS_BY_ONE:
                raise Failure(429, "too many calls are under way")
            self.all += 1
            self.of_user[user] = self.of_user.get(user, 0) + 1

    def release(self, user):
        with self.lock:
            self.all -= 1
            self.of_user[user] -= 1
            if self.of_user[user] == 0:
                del self.of_user[user]


class Subsystem:
    """The service. Actions are added by read() and write(), events by event()."""

    def __init__(self, namespace, name, version, help):
        self.description = pb.Description(namespace=namespace, name=name, version=version, help=help)
        self.handlers, self.last, self.listener = {}, {}, None
        self.lock = threading.Lock()
        self.seats = Seats()
        self.verifier, self.used = None, assertion.Used()

    def read(self, name, help, streams=False, schema=""):
        return self._action(name, help, pb.RIGHT_READ, streams, schema)

    def write(self, name, help, streams=False, schema=""):
        return self._action(name, help, pb.RIGHT_WRITE, streams, schema)

    def event(self, name, help):
        self.description.events.add(name=name, help=help)
        self.last[name] = None

    def _action(self, name, help, right, streams, schema):
        def add(handler):
            self.description.actions.add(name=name, right=right, help=help, streams=streams, args_schema=schema)
            self.handlers[name] = (handler, right, streams)
            return handler

        return add

    def publish(self, name, args):
        """Tells the gateway, if it listens; the last one of each name waits for the next that does."""
        event = pb.Event(name=name, args=_json(args, EVENT_MAX))
        with self.lock:
            if name not in self.last:
                raise ValueError(f"{name} is not described")
            # In the order in which they happened.
            del self.last[name]
            self.last[name] = event
            if self.listener is not None:
                try:
                    self.listener.put_nowait(event)
                except queue.Full:
                    log.warning("an event is lost: the gateway is too slow")

    # --- the four methods ---

    def _describe(self, _request, _context):
        return self.description

    def _call(self, request, context):
        try:
            handler, call, args = self._admit(request, context, streams=False)
            try:
                return pb.CallReply(result=_json(handler(call, args), RESULT_MAX))
            finally:
                self.seats.release(call.caller.user)
        except Exception as error:
            return pb.CallReply(failure=_failure(request, error))

    def _call_stream(self, request, context):
        try:
            handler, call, args = self._admit(request, context, streams=True)
            try:
                # A generator: it yields progress and returns the result.
                work, result = handler(call, args), None
                while True:
                    try:
                        yield pb.CallPart(progress=_json(next(work), PROGRESS_MAX))
                    except StopIteration as end:
                        result = end.value
                        break
                yield pb.CallPart(result=_json(result, RESULT_MAX))
            finally:
                self.seats.release(call.caller.user)
        except Exception as error:
            yield pb.CallPart(failure=_failure(request, error))

    def _events(self, _request, context):
        own = queue.Queue(EVENTS_QUEUE)
        with self.lock:
            # The newest stream is the one: the gateway may have been started anew.
            self.listener = own
            last = [event for event in self.last.values() if event is not None]
        try:
            yield from last
            while context.is_active() and self.listener is own:
                try:
                    yield own.get(timeout=0.2)
                except queue.Empty:
                    pass
        finally:
            # Nothing is kept for a gateway that has left.
            with self.lock:
                if self.listener is own:
                    self.listener = None

    # --- who may, and what ---

    def _admit(self, request, context, streams):
        caller = self.verifier.user(request.assertion)
        handler, right, streaming = self.handlers.get(request.action, (None, None, None))
        if handler is None or streaming != streams:
            raise Failure(404, "no such action")
        of = self.description
        if not caller.may(f"sysadm.{of.namespace}.{of.name}.{request.action}"):
            raise Failure(403, "the session may not do that")
        if request.deadline_ms == 0:
            raise Failure(408, "no time is left")
        if len(request.args) > ARGS_MAX:
            raise Failure(400, "the args are longer than 128 KiB")
        try:
            args = _args(request.args)
        except (ValueError, RecursionError) as error:
            raise Failure(400, "the args are no JSON") from error
        if isinstance(args, dict):
            args.pop("action", None)
        self.seats.take(caller.user)
        try:
            if right == pb.RIGHT_WRITE:
                self.used.take(caller)
            log.info("%.100r: %s by %r", request.request_id, request.action, caller.user)
            return handler, Call(caller, request, context), args
        except BaseException:
            self.seats.release(caller.user)
            raise


def _args(text):
    args = json.loads(text.decode("utf-8"))
    # Half a surrogate pair, written as an escape, is no text: whatever is done with it later would fail.
    json.dumps(args, ensure_ascii=False).encode()
    return args


def _json(value, most):
    text = json.dumps(value, allow_nan=False).encode()
    if len(text) > most:
        raise ValueError(f"longer than {most} bytes")
    return text


def _failure(request, error):
    if isinstance(error, Failure):
        return pb.Failure(code=error.code, message=str(error)[:200])
    if isinstance(error, assertion.NotBelieved):
        return pb.Failure(code=401, message="the assertion is not believed")
    if isinstance(error, assertion.NoUser):
        return pb.Failure(code=403, message="the caller is no user of this host")
    if isinstance(error, assertion.NoKey):
        log.error("%s", error)
        return pb.Failure(code=503, message="authd's public key cannot be read")
    if isinstance(error, assertion.Full):
        return pb.Failure(code=429, message="too many calls that change something")
    # The words of a fault are for the log.
    log.error("%.100r failed", request.action, exc_info=error)
    return pb.Failure(code=500, message="a fault")


def serve(subsystem, socket, key, authd_uid):
    """Listens on `socket`, and returns the server; stop(grace) ends it."""
    directory = os.stat(os.path.dirname(socket))
    if stat.S_IMODE(directory.st_mode) & 0o027 or directory.st_uid not in (0, os.geteuid()):
        raise SystemExit(f"the directory of {socket} must be this user's, its group the gateway's, its mode 0710")
    of = subsystem.description
    if of.ByteSize() > DESCRIPTION_MAX:
        raise SystemExit("the description is longer than 128 KiB as a whole")
    subsystem.verifier = assertion.Verifier(key, authd_uid, f"{of.namespace}/{of.name}")
    # Calls, and some more, so that Describe and Events always have a thread.
    pool = futures.ThreadPoolExecutor(max_workers=CALLS_MAX + 8)
    server = grpc.server(
        pool,
        options=[
            ("grpc.max_receive_message_length", ARGS_MAX + assertion.JWT_MAX + 4096),
            ("grpc.max_send_message_length", RESULT_MAX + 4096),
            ("grpc.max_concurrent_streams", 512),
        ],
    )

    def rpc(make, function, request, reply):
        return make(function, request_deserializer=request.FromString, response_serializer=reply.SerializeToString)

    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods = {
        "Describe": rpc(one, subsystem._describe, pb.DescribeRequest, pb.Description),
        "Call": rpc(one, subsystem._call, pb.CallRequest, pb.CallReply),
        "CallStream": rpc(many, subsystem._call_stream, pb.CallRequest, pb.CallPart),
        "Events": rpc(many, subsystem._events, pb.EventsRequest, pb.Event),
    }
    handlers = grpc.method_handlers_generic_handler("doorward.subsystem.v1.Subsystem", methods)
    server.add_generic_rpc_handlers((handlers,))
    # Whoever gets through the directory may connect.
    before = os.umask(0o111)
    try:
        if server.add_insecure_port(f"unix:{socket}") == 0:
            raise SystemExit(f"cannot listen on {socket}")
    finally:
        os.umask(before)
    # What is signed in the second of the start may have been used by one that ran before.
    subsystem.used.await_first()
    server.start()
    return server
