"""A small HTTP store on Flask, with a lock for each key: what most people write. Served by gunicorn in `http.py`."""

from __future__ import annotations

import threading
from typing import Any

from flask import Flask, Response, jsonify, request

app = Flask(__name__)
values: dict[str, Any] = {}
locks: dict[str, threading.Lock] = {}
guard = threading.Lock()

Answer = tuple[Response, int]


def lock_of(key: str) -> threading.Lock:
    """Return the lock of a key."""
    with guard:
        return locks.setdefault(key, threading.Lock())


@app.route("/<key>", methods=["POST", "PUT"])
def put(key: str) -> Answer:
    """Store a value."""
    value = request.get_json()["value"]
    with lock_of(key):
        values[key] = value
    return jsonify({"message": "Value stored successfully"}), 200


@app.route("/<key>", methods=["GET"])
def get(key: str) -> Answer:
    """Read a value."""
    with lock_of(key):
        if key in values:
            return jsonify({"value": values[key]}), 200
    return jsonify({"error": "Key not found"}), 404


@app.route("/<key>", methods=["DELETE"])
def delete(key: str) -> Answer:
    """Delete a value."""
    with lock_of(key):
        if values.pop(key, None) is None:
            return jsonify({"error": "Key not found"}), 404
    return jsonify({"message": "Key deleted successfully"}), 200
