"""A WebSocket client without anything of its own: the package `websockets`, as it comes.

relay.py ADDRESS PATH [CERTIFICATE KEY] | relay.py /path/of/a.sock PATH

Each line on stdin is {"text": T} or {"binary": T}, a frame to send, or {"close": true}; each line on
stdout is {"text": T}, a frame that came, or {"closed": CODE} at the end. The server's certificate is
not checked: the tests do that elsewhere, and here nobody is in between.
"""

import asyncio
import json
import ssl
import sys

import websockets


def connect(address, path, own):
    if address.startswith("/"):
        return websockets.unix_connect(address, f"ws://localhost{path}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if own:
        context.load_cert_chain(*own)
    return websockets.connect(f"wss://{address}{path}", ssl=context)


def tell(what):
    print(json.dumps(what), flush=True)


async def send_lines(socket):
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        frame = json.loads(line)
        try:
            if "text" in frame:
                await socket.send(frame["text"])
            elif "binary" in frame:
                await socket.send(frame["binary"].encode())
            else:
                await socket.close()
        except websockets.ConnectionClosed:
            pass


async def main():
    async with connect(sys.argv[1], sys.argv[2], sys.argv[3:5]) as socket:
        sender = asyncio.create_task(send_lines(socket))
        try:
            while True:
                tell({"text": await socket.recv()})
        except websockets.ConnectionClosed as end:
            tell({"closed": end.rcvd.code if end.rcvd else None})
        sender.cancel()


asyncio.run(main())
