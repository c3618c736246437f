"""gRPC on a Unix socket, for one caller: what terminals.py and channels.py have in common.

grpcio cannot tell whose process is at the other end of a Unix socket. The socket's directory keeps others out: it is this
user's own, its group is the caller's, its mode 0710. serve() refuses to start in any other.
"""

import logging
import os
import signal
import stat
import sys
from concurrent import futures

import grpc


def serve(socket, service, methods, questions_max, request_max):
    """Listens on `socket`, and returns the server; stop(grace) ends it. `methods`: name -> (function, request, reply)."""
    directory = os.stat(os.path.dirname(socket))
    if stat.S_IMODE(directory.st_mode) & 0o027 or directory.st_uid not in (0, os.geteuid()):
        raise SystemExit(f"the directory of {socket} must be this user's, its group the caller's, its mode 0710")
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=questions_max),
        options=[("grpc.max_receive_message_length", request_max), ("grpc.max_concurrent_streams", 128)],
    )
    rpcs = {
        name: grpc.unary_unary_rpc_method_handler(
            function, request_deserializer=request.FromString, response_serializer=reply.SerializeToString
        )
        for name, (function, request, reply) in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, rpcs),))
    # Whoever gets through the directory may connect.
    before = os.umask(0o111)
    try:
        if server.add_insecure_port(f"unix:{socket}") == 0:
            raise SystemExit(f"cannot listen on {socket}")
    finally:
        os.umask(before)
    server.start()
    return server


def run(start):
    """Starts what `start` returns, and stops it when it is asked to."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    # Blocked before there are other threads: a handler would run only in the main thread, which a signal that another
    # thread gets does not wake.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    server = start()
    print("ready", flush=True)
    signal.sigwait(signals)
    server.stop(grace=1).wait()
