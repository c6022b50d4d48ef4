"""What is done without the interpreter: read from many connections, and send replies to many."""

cdef enum:
    READ_BYTES = 16 * 1024
    INPUT_BYTES = 2 * READ_BYTES  # of all members: more would let the first of them wait for too long
    WAVE_MEMBERS = 16

cdef double WAVE_SECONDS = 0.0002  # after so long the replies so far are sent, and the wave goes on

cdef struct Member:
    # A connection of a wave, with its input.
    PyObject* connection  # a reference
    int fd
    const char* input
    Py_ssize_t input_size  # 0 at the end of the input; the error as a negative number
    bint has_changed  # whether its requests may have changed something

cdef struct Reply:
    int fd
    int error  # 0 for none
    const char* data
    Py_ssize_t size  # 0 if there is nothing to send
    Py_ssize_t sent


cdef int read_inputs(Member* members, int count, char* inputs) noexcept nogil:
    """Read once from each member while there is room for a whole read. Return how many were read from."""
    cdef int number
    cdef Py_ssize_t used = 0, size
    for number in range(count):
        if used > INPUT_BYTES - READ_BYTES:
            return number
        size = recv(members[number].fd, inputs + used, READ_BYTES, 0)
        members[number].input = inputs + used
        members[number].input_size = size if size >= 0 else -errno
        if size > 0:
            used += size
    return count


cdef Py_ssize_t send_replies(Reply* replies, Py_ssize_t count) noexcept nogil:
    """Send each reply, as far as its socket accepts it. Return how many bytes all accepted."""
    cdef Py_ssize_t number, size, total = 0
    cdef Reply* reply
    for number in range(count):
        reply = &replies[number]
        reply.sent = reply.error = 0
        if reply.size == 0:
            continue
        size = send(reply.fd, reply.data, reply.size, MSG_NOSIGNAL)
        if size < 0:
            reply.error = errno
        else:
            reply.sent = size
            total += size
    return total


cdef object system_error(int code):
    """Return the exception of a failed system call."""
    return OSError(code, strerror(code).decode())
