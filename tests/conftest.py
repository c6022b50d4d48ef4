"""For all tests: signals, and hypothesis with few examples, or with many by `--hypothesis-profile=thorough`."""

import signal

from hypothesis import HealthCheck, settings

collect_ignore = ["sample_project"]
"""A project of its own, whose tests tests/testing/test_sample_project.py runs."""

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell starts what runs in the background with SIGINT ignored, which programs under test would inherit."""

settings.register_profile("quick", max_examples=100, stateful_step_count=40, deadline=None)
settings.register_profile(
    "thorough",
    max_examples=1000,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")
