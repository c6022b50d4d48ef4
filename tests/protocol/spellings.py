"""Ways to write a number or to end a line, most of them usual; of the others memcached takes some."""

from hypothesis import strategies as st

USUAL = 8
"""How many times as often as each other way the usual one is drawn."""
FORMS = (
    b"0%d", b"%011d", b"%012d", b"%020d", b"%021d", b"%022d", b"%023d", b"%099d", b"+%d", b"-%d", b"--%d", b"+0%d",
    b"\t%d", b"%d\t", b"%d\tx", b"%dx", b"%d\0", b"\0%d", b"%d.0",
)  # fmt: skip
LINE_ENDS = (b"\r\n",) * USUAL + (b"\n",) * 3 + (b" \r\n",) * 3 + (b"  \r\n", b" \n", b"\r\r\n")


def spelled(number: int) -> st.SearchStrategy[bytes]:
    """Write a number that is not negative: mostly plainly, else with zeros, a sign, or what does not belong there."""
    return st.sampled_from((b"%d",) * 2 * USUAL + FORMS).map(lambda form: form % number)


def all_spelled(*numbers: int) -> st.SearchStrategy[bytes]:
    """Write one of these numbers."""
    return st.sampled_from(numbers).flatmap(spelled)


line_ends = st.sampled_from(LINE_ENDS)
