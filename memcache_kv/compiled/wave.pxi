"""What a wave does without the interpreter: read from its connections, and send them their replies."""

cdef enum:
    READ_BYTES = 16 * 1024
    INPUT_BYTES = 2 * READ_BYTES  # of all members: more would let the first of them wait for too long
    WAVE_MEMBERS = 64

cdef double WAVE_SECONDS = 0.0002  # after so long the replies so far are sent, and the wave goes on

cdef struct Member:
    # A connection of a wave, with the places of its input and of its replies.
    PyObject* connection  # a reference
    int fd
    int error  # of sending; 0 for none
    Py_ssize_t input_start
    Py_ssize_t input_size  # 0 at the end of the input; the error as a negative number
    Py_ssize_t reply_start
    Py_ssize_t reply_size
    Py_ssize_t reply_sent


cdef int read_inputs(Member* members, int count, char* inputs) noexcept nogil:
    """Read once from each member while there is room for a whole read. Return how many were read from."""
    cdef int number
    cdef Py_ssize_t used = 0, size
    for number in range(count):
        if used > INPUT_BYTES - READ_BYTES:
            return number
        size = recv(members[number].fd, inputs + used, READ_BYTES, 0)
        members[number].input_start = used
        members[number].input_size = size if size >= 0 else -errno
        if size > 0:
            used += size
    return count


cdef Py_ssize_t send_replies(Member* members, int count, const char* replies) noexcept nogil:
    """Send each member its replies, as far as the socket accepts them. Return how many bytes all accepted."""
    cdef int number
    cdef Member* member
    cdef Py_ssize_t size, total = 0
    for number in range(count):
        member = &members[number]
        member.reply_sent = member.error = 0
        if member.reply_size:
            size = send(member.fd, replies + member.reply_start, member.reply_size, MSG_NOSIGNAL)
            if size < 0:
                member.error = errno
            else:
                member.reply_sent = size
                total += size
    return total
