"""A port of this machine that leads to the coordinator of several processes, and outlives it.

jax's client ends its process, with signal 6 and a stack trace, the moment that its connection to the coordinator
closes, and leaves no time to say why. Here the client is connected to a port of its own process: when the coordinator
is gone, the client's connection stays, and the process is told, to end by itself.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

CONNECTING = 10.0
CHUNK = 2**16


class Relay:
    """Forwards what comes and goes, in threads of its own, until `close`.

    Args:
        coordinator: its host and port, such as "node1:1234" or "[::1]:1234".
        lost: called, once or several times, from a thread, when the coordinator closes a connection that it had taken.

    Attributes:
        address: to connect to instead.
    """

    def __init__(self, coordinator: str, lost: Callable[[], None]):
        host, _, port = coordinator.rpartition(":")
        self._coordinator = host.strip("[]"), int(port)
        self._lost = lost
        self._closing = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        _start(self._accept)

    def close(self) -> None:
        """From here on, the end of a connection is nothing to be told."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listening.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                coordinator = socket.create_connection(self._coordinator, CONNECTING)
            except OSError:
                client.close()  # it is not there yet; the client tries again
                continue
            coordinator.settimeout(None)
            for end in (client, coordinator):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _start(self._forward, client, coordinator)
            _start(self._forward_back, coordinator, client)

    def _forward(self, client: socket.socket, coordinator: socket.socket) -> None:
        _pump(client, coordinator)
        client.close()
        with contextlib.suppress(OSError):
            coordinator.shutdown(socket.SHUT_RDWR)

    def _forward_back(self, coordinator: socket.socket, client: socket.socket) -> None:
        _pump(coordinator, client)
        if client.fileno() >= 0 and not self._closing:
            self._lost()
            return
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        coordinator.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)


def _start(work: Callable, *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True, name="relay").start()
