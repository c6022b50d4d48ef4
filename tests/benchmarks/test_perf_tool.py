"""What perf and strace print is read."""

import pytest

from benchmarks.perf_tool import Hot, fill_hot, parse_counts

REPORT = """
 37.50%|[k] finish_task_switch.isra.0
 12.50%|[.] pthread_mutex_lock@@GLIBC_2.2.5
 50.00%  |[.] _PyEval_EvalFrameDefault
"""
COUNTED = """118694,,syscalls:sys_enter_read,8902210,100.00,,
0,,syscalls:sys_enter_futex,0,100.00,,
2,,syscalls:sys_enter_epoll_wait,6605573,100.00,,
"""
STRACED = """strace: Process 4711 attached with 2 threads
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.002000           2       840           read
 10.00    0.000100          14         7         2 openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.002100           2       847         2 total
"""


def test_functions_are_in_the_kernel_or_not() -> None:
    hot = Hot()
    fill_hot(hot, REPORT)
    assert hot.kernel == {"finish_task_switch.isra.0": 0.375}
    assert hot.user == {"pthread_mutex_lock@@GLIBC_2.2.5": 0.125, "_PyEval_EvalFrameDefault": 0.5}
    assert hot.kernel_share == 0.375


@pytest.mark.parametrize(
    ("text", "counts"),
    [(COUNTED, {"read": 118694, "epoll_wait": 2}), (STRACED, {"read": 840, "openat": 7}), ("", {})],
)
def test_calls_are_counted_by_name(text: str, counts: dict[str, int]) -> None:
    assert parse_counts(text) == counts
