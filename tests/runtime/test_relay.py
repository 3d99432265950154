import socket
import threading

from unet_jax.runtime.relay import Relay


def connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_what_is_said_passes_both_ways_and_the_coordinators_end_is_told():
    lost = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(f"127.0.0.1:{server.getsockname()[1]}", lost.set)
        with connect(relay.address) as client:
            coordinator, _ = server.accept()
            client.sendall(b"x" * 200_000)
            received = b""
            while len(received) < 200_000:
                received += coordinator.recv(2**16)
            coordinator.sendall(b"back")
            assert client.recv(10) == b"back"
            assert not lost.is_set()
            coordinator.close()
            assert lost.wait(10)
            # The client's connection outlives the coordinator's.
            client.settimeout(0.2)
            try:
                ended = client.recv(1) == b""
            except TimeoutError:
                ended = False
            assert not ended
        relay.close()


def test_the_clients_own_end_is_no_loss():
    lost = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(f"127.0.0.1:{server.getsockname()[1]}", lost.set)
        client = connect(relay.address)
        coordinator, _ = server.accept()
        client.close()
        coordinator.settimeout(10)
        assert coordinator.recv(1) == b""
        coordinator.close()
        assert not lost.wait(0.3)
        relay.close()


def test_a_coordinator_that_is_not_there_yet_closes_the_connection():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    relay = Relay(f"[127.0.0.1]:{port}", lambda: None)
    with connect(relay.address) as client:
        assert client.recv(1) == b""  # the client tries again
    relay.close()
