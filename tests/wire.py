"""A server that misbehaves as no emulator can: what it sends is up to the test, byte for byte."""

import http.client
import socket
import threading
import time


class Wire:
    """A server that does with each connection what a test says: `act(connection)`, for every request that came in."""

    def __init__(self, act, context=None):
        self._act, self._context = act, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.requests, self.connections, self.closed, self.done = [], 0, 0, threading.Event()
        self._open = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        try:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            reader = connection.makefile("rb")
            while line := reader.readline():
                headers = http.client.parse_headers(reader)
                body = reader.read(int(headers["content-length"] or 0))
                self.requests.append((line.decode().strip(), dict(headers), body))
                if self._act(connection) == "close":
                    reader.close()
                    connection.close()
                    self.closed += 1
                    return
        except OSError:
            pass

    def drip(self, connection, data, pause):
        for at in range(len(data)):
            if self.done.wait(pause):
                return
            connection.sendall(data[at : at + 1])


def sends(*answers):
    """Each request gets the next answer, the last one for ever; what ends with None closes the connection."""
    waiting = list(answers)

    def act(connection):
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        connection.sendall(answer if isinstance(answer, bytes) else answer[0])
        return None if isinstance(answer, bytes) else "close"

    return act


def closed_meanwhile(client, wire, call, pause=0.0):
    """What a call comes to whose client is closed when its request has come in; `pause` seconds later."""
    came = []
    thread = threading.Thread(target=lambda: came.append(call()))
    thread.start()
    while not wire.requests:
        time.sleep(0.01)
    time.sleep(pause)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    return came[0]
