"""A small HTTP store on Flask, with a lock for each key: what most people write. Served by gunicorn in `http.py`."""

from __future__ import annotations

import importlib
import threading
from typing import Any, TypeAlias

flask: Any = importlib.import_module("flask")

app: Any = flask.Flask(__name__)
values: dict[str, Any] = {}
locks: dict[str, threading.Lock] = {}
guard = threading.Lock()

Answer: TypeAlias = tuple[Any, int]


def lock_of(key: str) -> threading.Lock:
    """Return the lock of a key."""
    with guard:
        return locks.setdefault(key, threading.Lock())


def put(key: str) -> Answer:
    """Store a value."""
    value = flask.request.get_json()["value"]
    with lock_of(key):
        values[key] = value
    return flask.jsonify({"message": "Value stored successfully"}), 200


def get(key: str) -> Answer:
    """Read a value."""
    with lock_of(key):
        if key in values:
            return flask.jsonify({"value": values[key]}), 200
    return flask.jsonify({"error": "Key not found"}), 404


def delete(key: str) -> Answer:
    """Delete a value."""
    with lock_of(key):
        if values.pop(key, None) is None:
            return flask.jsonify({"error": "Key not found"}), 404
    return flask.jsonify({"message": "Key deleted successfully"}), 200


app.add_url_rule("/<key>", view_func=put, methods=["POST", "PUT"])
app.add_url_rule("/<key>", view_func=get, methods=["GET"])
app.add_url_rule("/<key>", view_func=delete, methods=["DELETE"])
