"""Settings of hypothesis for all tests: few examples by default, many with `--hypothesis-profile=thorough`."""

from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=100, stateful_step_count=40, deadline=None)
settings.register_profile(
    "thorough",
    max_examples=1000,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")
