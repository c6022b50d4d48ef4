"""Replies that wait for the journal: they are kept while it saves the writes that they acknowledge, and then sent."""

cdef enum:
    SENT_AT_ONCE = 64
    UNCOUNTED_BYTES = 4096  # from memcache_kv/server/connection_memory.py
    READABLE = 1  # from memcache_kv/server/poller.py

cdef class Held:
    """The connections of one worker whose replies wait for the journal. Only that worker uses it.

    It does for connections in their common form what the worker does for all: their replies are in `out` of the
    protocol, and their state is WAITING_FOR_JOURNAL. So the worker may release them, too.

    journal: None if there is none; acts: the worker, whose methods handle everything else; connections: its
    ConnectionTable; session_class: the base class of the protocols; reading, waiting: the two states; latency: measures
    requests, which the worker ends.
    """

    cdef object journal, acts, connections, awaiting, reading, waiting, zero
    cdef dict measured  # the connections whose requests are measured
    cdef list _found  # the connections of this turn whose replies must wait
    cdef bint must_save  # whether there is a journal
    cdef Py_ssize_t _before, _own  # the length of the queue and the own position before a connection's requests
    cdef PyObject** _count
    cdef Py_ssize_t _fd, _state, _protocol, _tls, _unsent, _watched, _release_at, _held_until, _counted
    cdef Py_ssize_t _out, _closing, _paused, _watcher, _rest, _mid_block

    def __init__(self, journal, acts, connections, connection_class, session_class, reading, waiting, latency):
        self.measured = latency.waiting
        self.journal, self.acts, self.connections = journal, acts, connections
        self.awaiting, self._count = connections.awaiting_journal, slot_named(connections, "waiting")
        self.reading, self.waiting, self.zero = reading, waiting, 0
        self.must_save = journal is not None
        self._found = []
        self._fd, self._state = offset_of(connection_class, "fd"), offset_of(connection_class, "state")
        self._protocol, self._tls = offset_of(connection_class, "protocol"), offset_of(connection_class, "tls")
        self._unsent, self._watched = offset_of(connection_class, "unsent"), offset_of(connection_class, "watched")
        self._release_at = offset_of(connection_class, "release_at")
        self._held_until = offset_of(connection_class, "held_until")
        self._counted = offset_of(connection_class, "counted_bytes")
        self._out, self._closing = offset_of(session_class, "out"), offset_of(session_class, "closing")
        self._paused, self._watcher = offset_of(session_class, "paused"), offset_of(session_class, "watcher")
        self._rest, self._mid_block = offset_of(session_class, "_held"), offset_of(session_class, "_mid_block")

    # During a turn

    cdef int refresh(self) except -1:
        """Read what other threads or the worker may have changed."""
        if self.must_save:
            self._own = self.journal.own_position()
        return 0

    cdef inline void begin(self, Table table) noexcept:
        """Begin the requests of a connection."""
        self._before = PyList_GET_SIZE(table._queued)

    cdef bint has_changed(self, Table table) except -1:
        """Tell whether the requests since `begin` have changed something. Some that have not are taken for it."""
        cdef Py_ssize_t before = self._own
        if not self.must_save:
            return False
        if table.left_at != 0:
            self._own = self.journal.own_position()
        return self._own != before or PyList_GET_SIZE(table._queued) > self._before

    cdef bint append(self) except -1:
        """Have the journal write what is queued. Return whether the replies to it may be sent."""
        return self.journal.append()

    cdef int keep(self, object connection, const char* data, Py_ssize_t size) except -1:
        """Keep the replies of a connection, whose requests are all carried out, until the journal has its writes."""
        protocol = slot(<PyObject*>connection, self._protocol)[0]
        if size:
            (<list>slot(protocol, self._out)[0]).append(PyBytes_FromStringAndSize(data, size))
        self._found.append(connection)
        return 0

    cdef int end_turn(self) except -1:
        """Let the connections wait whose replies were kept. The records of their writes are in the journal's queue."""
        cdef Py_ssize_t count = PyList_GET_SIZE(self._found)
        if count == 0:
            return 0
        found, self._found = self._found, []
        position = self.journal.own_position()
        for connection in found:
            if <object>slot(<PyObject*>connection, self._state)[0] is not self.reading:
                continue  # closed for memory since then
            set_slot(slot(<PyObject*>connection, self._release_at), position)
            if self._keeps_little(<PyObject*>connection):
                set_slot(slot(<PyObject*>connection, self._state), self.waiting)
                PyDict_SetItem(self.awaiting, connection, None)
                add_to_slot(self._count, 1)
            else:
                self.acts.hold(connection)
        self.acts.await_journal(count)
        return 0

    cdef bint _keeps_little(self, PyObject* connection) except -1:
        """Tell whether a connection's replies need not be counted, and its descriptor is watched as most are."""
        out = <list>slot(slot(connection, self._protocol)[0], self._out)[0]
        return (
            PyLong_AsSsize_t(<object>slot(connection, self._counted)[0]) == 0
            and PyLong_AsSsize_t(<object>slot(connection, self._watched)[0]) == READABLE
            and (PyList_GET_SIZE(out) == 0 or (PyList_GET_SIZE(out) == 1 and len(<bytes>out[0]) < UNCOUNTED_BYTES))
        )

    # Once the journal has moved

    def release(self):
        """Send the replies whose writes the journal has saved. It must not be one that refuses writes."""
        cdef Py_ssize_t first
        saved = self._saved()
        for first in range(0, len(saved), SENT_AT_ONCE):
            self._send(saved[first : first + SENT_AT_ONCE])

    cdef list _saved(self):
        """Return the connections that need not wait any more. Most have waited for the same position."""
        saved, last, is_saved = [], None, False
        for connection in self.awaiting:
            position = <object>slot(<PyObject*>connection, self._release_at)[0]
            if position is not last:
                last, is_saved = position, not self.journal.must_wait(position)
            if is_saved:
                saved.append(connection)
        return saved

    cdef int _send(self, list connections) except -1:
        """Send the replies of connections that need not wait any more, without the interpreter."""
        cdef Reply replies[SENT_AT_ONCE]
        cdef Reply* reply
        cdef Py_ssize_t count = 0, number, written
        owners, texts, others = [], [], []
        for connection in connections:
            if not self._is_simple(<PyObject*>connection):
                others.append(connection)
                continue
            out = self._resume(connection)
            if PyList_GET_SIZE(out):
                text = <bytes>out[0]
                reply = &replies[count]
                reply.fd = PyLong_AsSsize_t(<object>slot(<PyObject*>connection, self._fd)[0])
                reply.data, reply.size = PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
                owners.append(connection)
                texts.append(text)
                clear_list(out)
                count += 1
        with nogil:
            written = send_replies(replies, count)
        self.acts.context.counters.bytes_written += written
        for number in range(count):
            if replies[number].sent < replies[number].size:
                self._fail(owners[number], texts[number], &replies[number])
        for connection in others:
            self.acts.release(connection)
        return 0

    cdef bint _is_simple(self, PyObject* connection) except -1:
        """Tell whether a connection, once its replies are sent, only waits for requests."""
        cdef PyObject* protocol = slot(connection, self._protocol)[0]
        rest = <object>slot(protocol, self._rest)[0]
        if PyDict_Size(self.measured) and <object>connection in self.measured:
            return False
        return (
            <object>slot(connection, self._state)[0] is self.waiting
            and <object>slot(connection, self._tls)[0] is None
            and <object>slot(connection, self._unsent)[0] is None
            and self._keeps_little(connection)
            and not <object>slot(connection, self._held_until)[0]
            and <object>slot(protocol, self._closing)[0] is False
            and <object>slot(protocol, self._paused)[0] is False
            and <object>slot(protocol, self._watcher)[0] is None
            and <object>slot(protocol, self._mid_block)[0] is False
            and PyBytes_CheckExact(rest) and PyBytes_GET_SIZE(rest) == 0
        )

    cdef list _resume(self, object connection):
        """Have a connection read requests again. Return its replies."""
        del self.awaiting[connection]
        add_to_slot(self._count, -1)
        set_slot(slot(<PyObject*>connection, self._state), self.reading)
        set_slot(slot(<PyObject*>connection, self._release_at), self.zero)
        return <list>slot(slot(<PyObject*>connection, self._protocol)[0], self._out)[0]

    cdef int _fail(self, object connection, bytes text, Reply* reply) except -1:
        """Keep what a connection's socket has not accepted, or close it after an error."""
        try:
            if reply.error not in (0, EAGAIN, EINTR):
                self.acts.broken(connection, system_error(reply.error))
                return 0
            set_slot(slot(<PyObject*>connection, self._unsent), memoryview(text)[reply.sent :])
            self.acts.await_socket(connection)
        except Exception as error:
            self.acts.drop(connection, error)
        return 0
