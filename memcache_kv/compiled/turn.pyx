# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A worker's turn: wait for events, and serve the connections whose requests are in their common form.

Everything else goes to the Python code, in order: the protocols carry out what is not known here, and the worker handles
all states but READING. The interpreter is given up only while the turn waits, as reads and writes never block.

The module relies on the GIL (see `table.pxi`), and is not used where there is none.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError, PyDict_SetItem, PyDict_Size
from cpython.object cimport PyObject, PyObject_Hash
from cpython.list cimport PyList_GET_SIZE, PyList_SetSlice
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport UINT32_MAX, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset, strchr, strerror

from memcache_kv.compiled.entry cimport (
    EXPIRING, EXPIRING_BYTES, FETCHED, LINE_END_BYTES, PLAIN, PLAIN_LIMIT_BYTES, STALE, TRACKED, WITH_CAS,
    WITH_CAS_BYTES, WON
)
from memcache_kv.compiled.slots cimport (
    PyLong_AsSsize_t, add_to_slot, offset_of, set_slot, slot, slot_named
)

from threading import get_ident

from memcache_kv.errors import WritesRejected
from memcache_kv.store.entry import ENTRY_COST_BYTES, ITEM_COST_BYTES, Item

cdef extern from *:
    """
    #include <string.h>
    #include <sys/socket.h>
    #include <time.h>
    static inline double monotonic_seconds(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec + now.tv_nsec * 1e-9;
    }
    #define PyType_GenericAlloc(kind, count) (PyType_GenericAlloc)((PyTypeObject *)(kind), count)
    static inline int clear_list(PyObject *list) {
        return PyList_SetSlice(list, 0, PY_SSIZE_T_MAX, NULL);
    }
    #ifdef __linux__
    #include <sys/epoll.h>
    #define HAS_EPOLL 1
    #else
    #define HAS_EPOLL 0
    struct epoll_event { int events; union { int fd; } data; };
    #define epoll_wait(poller, events, most, timeout) (-1)
    #endif
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    """
    const bint HAS_EPOLL
    const int MSG_NOSIGNAL
    ctypedef union epoll_data:
        int fd
    struct epoll_event:
        epoll_data data
    int epoll_wait(int poller, epoll_event* events, int most, int timeout) nogil
    Py_ssize_t recv(int fd, void* data, size_t size, int flags) nogil
    Py_ssize_t send(int fd, const void* data, size_t size, int flags) nogil
    object PyObject_CallNoArgs(object function)
    object PyType_GenericAlloc(object kind, Py_ssize_t count)
    int PyGC_Disable()
    int PyGC_Enable()
    double monotonic_seconds() nogil
    void* memmem(const void* text, size_t text_size, const void* part, size_t part_size)
    const Py_ssize_t PY_SSIZE_T_MAX
    int clear_list(list each) except -1

include "table.pxi"
include "observed.pxi"
include "text.pxi"
include "meta.pxi"
include "binary.pxi"
include "changes.pxi"
include "held.pxi"

cdef enum:
    READ_BYTES = 16 * 1024
    EVENTS_AT_ONCE = 256  # more are served in the next turn, so that other threads run in between


ctypedef Py_ssize_t (*Run)(Table, const char*, Py_ssize_t, Py_ssize_t, bint, Py_ssize_t*) except -1


cdef class Requests(Table):
    """Carries out requests that a protocol got in other ways: bytes in, bytes out. Used by one thread."""

    def run_text(self, session, bytes data, Py_ssize_t position, Py_ssize_t most):
        """Carry out requests of the text protocol from `position` on, and at most so many; add the replies to `out`.

        Stops at the first request that is not in its common form. Returns the position after the last one, and their
        number, or `most` if the time of the turn is used up.
        """
        return self._run(run_text, session, data, position, most)

    def run_binary(self, session, bytes data, Py_ssize_t position, Py_ssize_t most):
        """Carry out requests of the binary protocol, as `run_text` does."""
        return self._run(run_binary, session, data, position, most)

    cdef object _run(self, Run run, object session, bytes data, Py_ssize_t position, Py_ssize_t most):
        cdef Py_ssize_t done = 0
        self.refresh()
        self.begin(TURN_BYTES - session.turn_bytes)
        try:
            position += run(
                self, PyBytes_AS_STRING(data) + position, PyBytes_GET_SIZE(data) - position, most,
                session.takes_small_sets, &done,
            )
        finally:
            self.settle()
            if self.size:
                session.out.append(PyBytes_FromStringAndSize(self.out, self.size))
            session.turn_bytes += self.size
        return position, most if self.is_time_up else done


cdef class Turn:
    """The turns of one worker, which alone uses it.

    requests, by_fd, poller: the worker's. connection_class, text_class, binary_class: the classes of what it serves;
    reading: the state in which requests are read. acts: the worker, whose methods handle everything else. held: keeps the
    replies that wait for the journal.
    """

    cdef Table table
    cdef Held held
    cdef object poller, acts, reading, by_fd
    cdef type text, binary
    cdef int epoll_fd
    cdef int fds[EVENTS_AT_ONCE]
    cdef char data[READ_BYTES]
    cdef Py_ssize_t _state, _protocol, _tls, _last_active, _unsent
    cdef Py_ssize_t _held, _mid_block, _out, _turn_bytes, _requests, _may_write, _login

    def __init__(
        self, Requests requests, dict by_fd, poller, acts, connection_class, text_class, binary_class, reading,
        Held held,
    ):
        self.held = held
        self.table, self.by_fd, self.poller, self.acts, self.reading = requests, by_fd, poller, acts, reading
        self.text, self.binary, self._login = text_class, binary_class, offset_of(binary_class, "login")
        self.epoll_fd = poller.fileno() if HAS_EPOLL and hasattr(poller, "fileno") else -1
        self._state, self._protocol = offset_of(connection_class, "state"), offset_of(connection_class, "protocol")
        self._tls, self._unsent = offset_of(connection_class, "tls"), offset_of(connection_class, "unsent")
        self._last_active = offset_of(connection_class, "last_active")
        self._held, self._mid_block = offset_of(text_class, "_held"), offset_of(text_class, "_mid_block")
        self._out, self._turn_bytes = offset_of(text_class, "out"), offset_of(text_class, "turn_bytes")
        self._requests = offset_of(text_class, "_requests_per_turn")
        self._may_write = offset_of(text_class, "takes_small_sets")

    def serve_ready(self, double timeout_seconds):
        """Wait for events for at most so long, and serve each connection that has one. Return the number of events."""
        cdef int number, count = self._wait(timeout_seconds)
        cdef PyObject* connection
        self.acts.begin_turn(count)
        self.table.refresh()
        self.held.begin_turn()
        for number in range(count):
            connection = PyDict_GetItemWithError(self.by_fd, self.fds[number])
            if connection is NULL or <object>slot(connection, self._state)[0] is not self.reading:
                self.table.settle()
                self.acts.handle(self.fds[number], None if connection is NULL else <object>connection)
                self.table.refresh()
            elif self._is_ready(<object>connection):
                self._serve(self.fds[number], <object>connection)
            else:
                self.table.settle()
                self.acts.serve(<object>connection)
                self.table.refresh()
        self.table.settle()
        self.held.end_turn()
        return count

    cdef int _wait(self, double timeout_seconds) except -1:
        """Wait for events; put the descriptors into `fds` and return their number."""
        cdef epoll_event events[EVENTS_AT_ONCE]
        cdef int count = 0, number, timeout_ms = <int>(timeout_seconds * 1000)
        if self.epoll_fd < 0:
            for fd, _ in self.poller.poll(timeout_seconds)[:EVENTS_AT_ONCE]:
                self.fds[count] = fd
                count += 1
            return count
        with nogil:
            count = epoll_wait(self.epoll_fd, events, EVENTS_AT_ONCE, timeout_ms)
        if count < 0:
            if errno != EINTR:
                raise OSError(errno, strerror(errno).decode())
            return 0
        for number in range(count):
            self.fds[number] = events[number].data.fd
        return count

    cdef bint _is_ready(self, object connection) noexcept:
        """Tell whether a connection's next bytes begin a request that may be carried out here."""
        protocol = <object>slot(<PyObject*>connection, self._protocol)[0]
        if <object>slot(<PyObject*>connection, self._tls)[0] is not None:
            return False
        if type(protocol) is self.binary:
            if <object>slot(<PyObject*>protocol, self._login)[0] is not None:
                return False
        elif type(protocol) is not self.text:
            return False
        held = <object>slot(<PyObject*>protocol, self._held)[0]
        if not PyBytes_CheckExact(held) or PyBytes_GET_SIZE(held):
            return False
        return self.table.is_usable and <object>slot(<PyObject*>protocol, self._mid_block)[0] is False

    cdef int _serve(self, int fd, object connection) except -1:
        """Read from a connection once, carry out its requests and send the replies."""
        try:
            self._serve_or_fail(fd, connection)
        except OSError as error:
            self.table.settle()
            self.acts.broken(connection, error)
            self.table.refresh()
        except Exception as error:
            self.table.settle()
            self.acts.drop(connection, error)
            self.table.refresh()
        return 0

    cdef int _serve_or_fail(self, int fd, object connection) except -1:
        cdef Table table = self.table
        cdef Run run
        cdef bint must_wait
        cdef Py_ssize_t size = recv(fd, self.data, READ_BYTES, 0), position, most, done = 0
        if size <= 0:
            if size < 0 and errno in (EAGAIN, EINTR):
                return 0
            if size < 0:
                self._fail()
            table.settle()
            self.acts.close_by_client(connection)
            return table.refresh()
        table.counts.bytes_read += size
        table.begin(TURN_BYTES)
        self.held.begin(table)
        set_slot(slot(<PyObject*>connection, self._last_active), table.now_object)
        protocol = <object>slot(<PyObject*>connection, self._protocol)[0]
        run = run_text if type(protocol) is self.text else run_binary
        most = PyLong_AsSsize_t(<object>slot(<PyObject*>protocol, self._requests)[0])
        position = run(
            table, self.data, size, most,
            <object>slot(<PyObject*>protocol, self._may_write)[0] is not False, &done,
        )
        must_wait = self.held.must_wait(table)
        if position < size:
            done = most if table.is_time_up else done
            return self._hand_over(connection, protocol, position, size, done, must_wait)
        if must_wait:
            return self.held.keep(connection, table.out, table.size)
        return self._send(fd, connection) if table.size else 0

    cdef int _send(self, int fd, object connection) except -1:
        """Send the replies. What the socket does not accept stays with the connection."""
        cdef Table table = self.table
        cdef Py_ssize_t sent = send(fd, table.out, table.size, MSG_NOSIGNAL)
        if sent < 0:
            if errno not in (EAGAIN, EINTR):
                self._fail()
            sent = 0
        table.counts.bytes_written += sent
        if sent < table.size:
            table.settle()
            rest = memoryview(PyBytes_FromStringAndSize(table.out + sent, table.size - sent))
            set_slot(slot(<PyObject*>connection, self._unsent), rest)
            self.acts.await_socket(connection)
            table.refresh()
        return 0

    cdef int _fail(self) except -1:
        """Raise the error of the last system call."""
        cdef int code = errno
        self.table.settle()
        raise OSError(code, strerror(code).decode())

    cdef int _hand_over(
        self, object connection, object protocol, Py_ssize_t position, Py_ssize_t size, Py_ssize_t done, bint must_wait
    ) except -1:
        """Let the connection's protocol carry out the rest of the input, and the worker send all replies.

        must_wait: whether they must wait for the journal in any case.
        """
        cdef Table table = self.table
        table.settle()
        rest = PyBytes_FromStringAndSize(self.data + position, size - position)
        set_slot(slot(<PyObject*>protocol, self._turn_bytes), table.size)
        if table.size:
            (<list>slot(<PyObject*>protocol, self._out)[0]).append(PyBytes_FromStringAndSize(table.out, table.size))
        self.acts.serve_rest(connection, rest, done, must_wait)
        return table.refresh()
