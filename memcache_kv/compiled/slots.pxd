"""Reach the slots of Python objects without a look-up of their names.

A class with `__slots__` keeps each attribute at a fixed place in its objects, and so do the classes that inherit from it.
Only for use under the GIL: nothing else guards the attributes against other threads.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

cdef extern from *:
    """
    #include <Python.h>
    #include <structmember.h>
    static inline Py_ssize_t offset_of_member(PyObject *descriptor) {
        if (!PyObject_TypeCheck(descriptor, &PyMemberDescr_Type)) {
            PyErr_SetString(PyExc_TypeError, "not a slot");
            return -1;
        }
        return ((PyMemberDescrObject *)descriptor)->d_member->offset;
    }
    """
    Py_ssize_t offset_of_member(object descriptor) except -1
    Py_ssize_t PyLong_AsSsize_t(object number) except? -1
    object PyLong_FromSsize_t(Py_ssize_t number)


cdef inline Py_ssize_t offset_of(type owner, str name) except -1:
    """Return the place of a slot in the objects of a class."""
    return offset_of_member(getattr(owner, name))


cdef inline PyObject** slot(PyObject* owner, Py_ssize_t offset) noexcept:
    """Return the address of an object's slot. The object must stay alive while the address is used."""
    return <PyObject**>(<char*>owner + offset)


cdef inline PyObject** slot_named(object owner, str name) except NULL:
    """Return the address of an object's slot, for objects that outlive its use."""
    return slot(<PyObject*>owner, offset_of(type(owner), name))


cdef inline void set_slot(PyObject** place, object value) noexcept:
    """Assign to a slot."""
    cdef PyObject* old = place[0]
    Py_INCREF(value)
    place[0] = <PyObject*>value
    Py_XDECREF(old)


cdef inline int add_to_slot(PyObject** place, Py_ssize_t number) except -1:
    """Add to a slot that holds an int."""
    set_slot(place, PyLong_FromSsize_t(PyLong_AsSsize_t(<object>place[0]) + number))
    return 0
