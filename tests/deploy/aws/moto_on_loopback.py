"""moto's server on a port, as a program; its instances have public addresses of this machine: nothing leaves it."""

import itertools
import sys
from importlib import import_module


def serve(port: str) -> None:
    """Serve for ever."""
    addresses = (f"127.78.{number // 250}.{number % 250 + 1}" for number in itertools.count())
    interfaces = import_module("moto.ec2.models.elastic_network_interfaces")
    interfaces.random_public_ip = lambda: next(addresses)  # type: ignore[attr-defined]
    import_module("moto.server").main(["-H", "127.0.0.1", "-p", port])


if __name__ == "__main__":
    serve(sys.argv[1])
