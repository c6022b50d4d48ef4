# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A worker's turn: wait for events, and serve the connections whose requests are in their common form.

The connections are served in waves: a wave reads from all its members, carries out their requests, and sends the replies.
The interpreter is given up while the turn waits, and while a wave reads and sends.

Everything else goes to the Python code, in order: the protocols carry out what is not known here, and the worker handles
all states but READING. No Python code that may close a connection runs while replies to others are not sent.

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

from memcache_kv.threads import get_ident

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
include "measured.pxi"
include "observed.pxi"
include "text.pxi"
include "meta.pxi"
include "binary.pxi"
include "line.pxi"
include "changes.pxi"
include "wave.pxi"
include "held.pxi"

cdef enum:
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

    def run_line(self, session, bytes data, Py_ssize_t position, Py_ssize_t most):
        """Carry out requests of the line protocol, as `run_text` does."""
        return self._run(run_line, session, data, position, most)

    cdef object _run(self, Run run, object session, bytes data, Py_ssize_t position, Py_ssize_t most):
        cdef Py_ssize_t done = 0
        self.refresh()
        self.size = 0
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
            self.size = 0
        return position, most if self.is_time_up else done


cdef class Turn:
    """The turns of one worker, which alone uses it.

    requests, by_fd, poller: the worker's. connection_class, text_class, binary_class, line_class: the classes of what it
    serves, the last None without a listener for it; reading: the state in which requests are read. acts: the worker, whose methods handle everything else. held: keeps the
    replies that wait for the journal. latency: measures requests.
    """

    cdef Table table
    cdef Held held
    cdef object poller, acts, reading, by_fd, nothing, latency
    cdef type text, binary
    cdef object line
    cdef int epoll_fd
    cdef int fds[EVENTS_AT_ONCE]
    cdef Member members[WAVE_MEMBERS]
    cdef Reply replies[WAVE_MEMBERS]  # to the member with the same number
    cdef char inputs[INPUT_BYTES]
    cdef int sent  # how many members of the wave have got their replies
    cdef bint has_changed  # whether one of the others has changed something
    cdef bint is_measured  # whether this turn's requests are
    cdef Measured measured[WAVE_MEMBERS]  # those of the member with the same number
    cdef double began  # when the first reply was begun that is not sent
    cdef Py_ssize_t _state, _protocol, _tls, _last_active, _unsent, _counted_bytes
    cdef Py_ssize_t _held, _mid_block, _out, _turn_bytes, _requests, _may_write, _login

    def __init__(
        self, Requests requests, dict by_fd, poller, acts, connection_class, text_class, binary_class, line_class,
        reading, Held held, latency,
    ):
        self.held, self.latency, self.is_measured = held, latency, False
        self.table, self.by_fd, self.poller, self.acts, self.reading = requests, by_fd, poller, acts, reading
        self.text, self.binary, self._login = text_class, binary_class, offset_of(binary_class, "login")
        self.line = line_class
        self.epoll_fd = poller.fileno() if HAS_EPOLL and hasattr(poller, "fileno") else -1
        self._state, self._protocol = offset_of(connection_class, "state"), offset_of(connection_class, "protocol")
        self._tls, self._unsent = offset_of(connection_class, "tls"), offset_of(connection_class, "unsent")
        self._last_active = offset_of(connection_class, "last_active")
        self._counted_bytes, self.nothing = offset_of(connection_class, "counted_bytes"), 0
        self._held, self._mid_block = offset_of(text_class, "_held"), offset_of(text_class, "_mid_block")
        self._out, self._turn_bytes = offset_of(text_class, "out"), offset_of(text_class, "turn_bytes")
        self._requests = offset_of(text_class, "_requests_per_turn")
        self._may_write = offset_of(text_class, "takes_small_sets")

    def serve_ready(self, double timeout_seconds):
        """Wait for events for at most so long, and serve each connection that has one. Return the number of events."""
        cdef int number = 0, gathered, count = self._wait(timeout_seconds)
        self.is_measured = self.acts.begin_turn(count)
        self._refresh()
        while number < count:
            gathered = self._gather(number, count)
            if gathered:
                number += self._serve_wave(gathered)
            else:
                self._leave_to_worker(self.fds[number])
                number += 1
        self.table.settle()
        self.held.end_turn()
        return count

    cdef int _refresh(self) except -1:
        """Read what other threads or the worker may have changed."""
        self.table.refresh()
        return self.held.refresh()

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
        """Tell whether a connection's next bytes begin a request that may be carried out here.

        Where memory is short, the worker may close any connection that counts for it, or stop reading from it, while
        it serves another one: such a connection is no member of a wave.
        """
        if <object>slot(<PyObject*>connection, self._counted_bytes)[0] is not self.nothing:
            return False
        protocol = <object>slot(<PyObject*>connection, self._protocol)[0]
        if <object>slot(<PyObject*>connection, self._tls)[0] is not None:
            return False
        if type(protocol) is self.binary:
            if <object>slot(<PyObject*>protocol, self._login)[0] is not None:
                return False
        elif type(protocol) is not self.text and type(protocol) is not self.line:
            return False
        held = <object>slot(<PyObject*>protocol, self._held)[0]
        if not PyBytes_CheckExact(held) or PyBytes_GET_SIZE(held):
            return False
        return self.table.is_usable and <object>slot(<PyObject*>protocol, self._mid_block)[0] is False

    cdef int _leave_to_worker(self, int fd) except -1:
        """Let the worker handle an event."""
        cdef PyObject* found = PyDict_GetItemWithError(self.by_fd, fd)
        connection = None if found is NULL else <object>found
        self.table.settle()
        if found is not NULL and <object>slot(found, self._state)[0] is self.reading:
            if self.is_measured:
                self.acts.serve_measured(connection)
            else:
                self.acts.serve(connection)
        else:
            self.acts.handle(fd, connection)
        return self._refresh()

    cdef int _gather(self, int first, int count) except -1:
        """Make a wave of the connections from `first` on, up to one that the worker must serve. Return their number."""
        cdef PyObject* connection
        cdef int number = first
        while number < count and number - first < WAVE_MEMBERS:
            connection = PyDict_GetItemWithError(self.by_fd, self.fds[number])
            if connection is NULL or <object>slot(connection, self._state)[0] is not self.reading:
                break
            if not self._is_ready(<object>connection):
                break
            Py_INCREF(<object>connection)
            self.members[number - first].connection = connection
            self.members[number - first].fd = self.replies[number - first].fd = self.fds[number]
            self.replies[number - first].size = 0
            self.members[number - first].has_changed = False
            number += 1
        return number - first

    cdef int _serve_wave(self, int gathered) except -1:
        """Read from the members, carry out their requests and send the replies. Return how many were served."""
        cdef int number, count
        self.table.settle()
        with nogil:
            count = read_inputs(self.members, gathered, self.inputs)
        self._refresh()
        self.sent, self.has_changed = 0, False
        for number in range(count):
            if self.table.size and self._is_due():
                self._send(number)
            if self.table.size == 0 and not self.has_changed:
                self.sent, self.began = number, monotonic_seconds()
            if self.is_measured:
                begin_measuring(self.table, &self.measured[number])
            self._answer(number)
        self._send(count)
        if self.is_measured:  # those without a reply are not counted yet
            self.table.settle()
            self._end_measuring(0, count, monotonic_seconds())
            self._refresh()
        for number in range(gathered):
            Py_XDECREF(self.members[number].connection)
        return count

    cdef bint _is_due(self) noexcept:
        """Tell whether the replies so far must be sent before other requests are carried out."""
        return self.table.size > REPLIES_AT_ONCE or monotonic_seconds() - self.began > WAVE_SECONDS

    cdef int _answer(self, int number) except -1:
        """Carry out the requests of a member."""
        cdef Member* member = &self.members[number]
        connection = <object>member.connection
        if <object>slot(member.connection, self._state)[0] is not self.reading:
            return 0  # serving another member has closed it
        try:
            self._answer_or_fail(number, connection)
        except Exception as error:
            self.replies[number].size, self.table.size = 0, self.replies[number].data - self.table.out
            self._send(number)
            self._give_up(connection, error)
        return 0

    cdef int _answer_or_fail(self, int number, object connection) except -1:
        cdef Table table = self.table
        cdef Member* member = &self.members[number]
        cdef Reply* reply = &self.replies[number]
        cdef Run run
        cdef bint has_changed
        cdef Py_ssize_t position, most, done = 0
        reply.data = table.out + table.size
        if member.input_size <= 0:
            return self._end_input(number, connection)
        table.counts.bytes_read += member.input_size
        table.begin(TURN_BYTES)
        self.held.begin(table)
        set_slot(slot(<PyObject*>connection, self._last_active), table.now_object)
        protocol = <object>slot(<PyObject*>connection, self._protocol)[0]
        run = run_text if type(protocol) is self.text else run_binary if type(protocol) is self.binary else run_line
        most = PyLong_AsSsize_t(<object>slot(<PyObject*>protocol, self._requests)[0])
        position = run(
            table, member.input, member.input_size, most,
            <object>slot(<PyObject*>protocol, self._may_write)[0] is not False, &done,
        )
        has_changed = self.held.has_changed(table)
        if self.is_measured:
            end_requests(table, &self.measured[number])
        reply.size = table.out + table.size - reply.data
        if position < member.input_size:
            done = most if table.is_time_up else done
            return self._hand_over(number, connection, protocol, position, done, has_changed)
        if has_changed:
            self.has_changed = member.has_changed = True
        return 0

    cdef int _end_input(self, int number, object connection) except -1:
        """Close a connection whose client has closed it, or which is broken, unless there was only nothing to read."""
        cdef Member* member = &self.members[number]
        if member.input_size in (-EAGAIN, -EINTR):
            return 0
        self._send(number)
        self.table.settle()
        if member.input_size == 0:
            self.acts.close_by_client(connection)
        else:
            self.acts.broken(connection, system_error(-member.input_size))
        return self._refresh()

    cdef int _hand_over(
        self, int number, object connection, object protocol, Py_ssize_t position, Py_ssize_t done, bint has_changed
    ) except -1:
        """Let the connection's protocol carry out the rest of the input, and the worker send all replies.

        The members before it get their replies first, as this may take longer, and may close connections.
        has_changed: whether the requests before may have changed something.
        """
        cdef Table table = self.table
        cdef Member* member = &self.members[number]
        cdef Py_ssize_t size = self.replies[number].size
        replies = PyBytes_FromStringAndSize(self.replies[number].data, size) if size else None
        rest = PyBytes_FromStringAndSize(member.input + position, member.input_size - position)
        table.size -= size
        self.replies[number].size = 0
        self._send(number)
        if <object>slot(member.connection, self._state)[0] is not self.reading:
            return 0  # serving another member has closed it
        table.settle()
        set_slot(slot(<PyObject*>protocol, self._turn_bytes), size)
        if replies is not None:
            (<list>slot(<PyObject*>protocol, self._out)[0]).append(replies)
        if self.is_measured:
            self._serve_measured_rest(number, connection, rest, done, has_changed)
        else:
            self.acts.serve_rest(connection, rest, done, has_changed)
        return self._refresh()

    cdef int _serve_measured_rest(
        self, int number, object connection, bytes rest, Py_ssize_t done, bint has_changed
    ) except -1:
        """Let the worker carry out the rest of a member's input, and measure it with the requests before."""
        cdef Measured* measured = &self.measured[number]
        measured.is_on = False
        self.latency.begin(measured.began, tally_of(measured))
        self.acts.serve_rest(connection, rest, done, has_changed)
        self.acts.end_measured(connection)
        return 0

    cdef int _end_measuring(self, int first, int end, double now) except -1:
        """Count the requests of these members, whose replies are sent, if they are not counted yet."""
        cdef int number
        for number in range(first, end):
            if self.measured[number].is_on:
                self.measured[number].is_on = False
                self.latency.observe(now - self.measured[number].began, tally_of(&self.measured[number]))
        return 0

    cdef int _send(self, int end) except -1:
        """Send the replies to the members before `end`. What a socket does not accept stays with its connection.

        Other threads run meanwhile, but only this one closes the connections: their descriptors remain theirs.
        """
        cdef Table table = self.table
        cdef int number, first = self.sent
        cdef double now
        self.sent = end
        if table.size == 0 and not self.has_changed:
            return 0
        table.settle()
        if self.has_changed:
            self._save(first, end)
        with nogil:
            table.counts.bytes_written += send_replies(self.replies + first, end - first)
            now = monotonic_seconds()
        if self.is_measured:
            self._end_measuring(first, end, now)
        self._refresh()
        table.size = 0
        for number in range(first, end):
            if self.replies[number].sent < self.replies[number].size:
                self._keep_rest(&self.members[number], &self.replies[number])
        return 0

    cdef int _save(self, int first, int end) except -1:
        """Have the journal write what these members have changed. If it can't at once, keep their replies until it has.

        The other replies are sent nevertheless.
        """
        cdef int number
        self.has_changed = False
        if self.held.append():
            return 0
        for number in range(first, end):
            if self.members[number].has_changed:
                self.held.keep(
                    <object>self.members[number].connection, self.replies[number].data, self.replies[number].size
                )
                if self.is_measured:
                    self._measure_on(number)
                self.replies[number].size = 0
        return 0

    cdef int _measure_on(self, int number) except -1:
        """Measure a member's requests until the journal has saved them."""
        self.measured[number].is_on = False
        self.latency.wait(
            <object>self.members[number].connection, self.measured[number].began, tally_of(&self.measured[number])
        )
        return 0

    cdef int _keep_rest(self, Member* member, Reply* reply) except -1:
        """Keep what a socket has not accepted, or close the connection if it is broken."""
        connection = <object>member.connection
        if <object>slot(member.connection, self._state)[0] is not self.reading:
            return 0  # serving another member has closed it
        self.table.settle()
        try:
            if reply.error not in (0, EAGAIN, EINTR):
                raise system_error(reply.error)
            rest = PyBytes_FromStringAndSize(reply.data + reply.sent, reply.size - reply.sent)
            set_slot(slot(member.connection, self._unsent), memoryview(rest))
            self.acts.await_socket(connection)
        except Exception as error:
            self._give_up(connection, error)
        return self._refresh()

    cdef int _give_up(self, object connection, object error) except -1:
        """Close a connection after an error."""
        self.table.settle()
        if isinstance(error, OSError):
            self.acts.broken(connection, error)
        else:
            self.acts.drop(connection, error)
        return self._refresh()
