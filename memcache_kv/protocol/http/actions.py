"""Methods on a key: which one carries out what, and who may use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from memcache_kv.auth.access import CommandClass
from memcache_kv.protocol.http.keys import key_in
from memcache_kv.protocol.http.message import HttpReply, HttpRequest
from memcache_kv.protocol.http.problems import HttpProblem
from memcache_kv.protocol.http.site import HttpClient

KeyAction: TypeAlias = Callable[[HttpClient, HttpRequest, bytes], HttpReply]
"""Carries out a method on a key."""
KeyMethods: TypeAlias = Mapping[bytes, tuple[KeyAction, CommandClass]]
"""What carries out each method, and its class."""


def act_on_key(client: HttpClient, request: HttpRequest, methods: KeyMethods, encoded: bytes) -> HttpReply:
    """Carry out a method on the key that a part of a path names. Raises HttpProblem and WritesRejected."""
    found = methods.get(request.method)
    if found is None:
        raise not_allowed(methods)
    action, command_class = found
    key = key_in(encoded)
    if command_class > client.highest_class:
        raise HttpProblem(403, "This client may not use this method.")
    return action(client, request, key)


def not_allowed(methods: Mapping[bytes, object]) -> HttpProblem:
    """Return the error of a method that a path does not have."""
    return HttpProblem(405, "The method is not allowed here.", ((b"Allow", b", ".join(methods)),))


def log_operation(client: HttpClient, method: str, key: bytes, value: bytes | None = None) -> None:
    """Write an operation to the operation log, if there is one."""
    operations = client.context.operations
    if operations is not None:
        operations.add(method, key, value)
