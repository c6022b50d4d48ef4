"""The condition of a server: what fails its probes."""

from memcache_kv.clock import steady_seconds
from memcache_kv.protocol import Context
from memcache_kv.server.condition import STUCK_SECONDS, Condition, Phase
from memcache_kv.server.worker import Worker
from tests.protocol.context_factory import Surroundings


class Journal:
    """As much of a journal as matters here."""

    refuses = False


def worker(age_seconds: float = 0.0) -> Worker:
    """A worker whose last turn began so long ago."""
    made = Worker(Surroundings().context)
    made.turn_began_at = steady_seconds() - age_seconds
    return made


def condition(
    *workers: Worker, phase: Phase = Phase.SERVING, needs_journal: bool = False, fault: bool = False
) -> Condition:
    made = Condition(workers, needs_journal, lambda: fault)
    made.phase = phase
    return made


def failing(made: Condition) -> tuple[list[str], list[str]]:
    """What fails /livez, and what fails /readyz."""
    return [each.reason for each in made.illnesses()], [each.reason for each in made.obstacles()]


def with_journal(refuses: bool) -> Context:
    journal = Journal()
    journal.refuses = refuses
    context = Surroundings().context
    context.journal = journal  # type: ignore[assignment]
    return context


def test_a_server_whose_workers_take_turns_is_well() -> None:
    assert failing(condition(worker(), worker(STUCK_SECONDS / 2))) == ([], [])


def test_a_stuck_worker_fails_both() -> None:
    made = condition(worker(), worker(STUCK_SECONDS + 1))
    assert failing(made) == (["stuck"], ["stuck"])
    assert made.illnesses()[0].detail == "1 of 2 workers serve no connection"


def test_a_stuck_worker_fails_a_server_that_drains_too() -> None:
    made = condition(worker(STUCK_SECONDS + 1))
    made.drain(30)
    assert failing(made) == (["stuck"], ["stuck", "draining"])


def test_workers_need_no_turns_before_and_after_serving() -> None:
    for phase, name in ((Phase.LOADING, "loading"), (Phase.STOPPING, "stopping")):
        assert failing(condition(worker(STUCK_SECONDS + 1), phase=phase)) == ([], [name])


def test_a_thread_that_has_died_fails_both() -> None:
    assert failing(condition(worker(), fault=True)) == (["fault"], ["fault"])


def test_a_failing_journal_fails_readiness_where_that_is_wanted() -> None:
    for refuses, wanted, expected in ((True, True, ["journal"]), (True, False, []), (False, True, [])):
        made = condition(worker(), needs_journal=wanted)
        made.reported = with_journal(refuses)
        assert failing(made) == ([], expected)


def test_without_a_journal_nothing_of_it_is_needed() -> None:
    made = condition(worker(), needs_journal=True)
    made.reported = Surroundings().context
    assert failing(made) == ([], [])


def test_the_time_to_drain_runs_out() -> None:
    made = condition(worker())
    assert made.drain_seconds_left is None
    made.drain(1000)
    assert made.phase is Phase.DRAINING
    assert made.drain_seconds_left is not None
    assert 900 < made.drain_seconds_left <= 1000
    made.drain(0)
    assert made.drain_seconds_left == 0
