"""Which queue is asked next, and for how much: laws and examples."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from podium_workers.runtime.backlog import PRESENCE_SECONDS, Backlog
from podium_workers.runtime.task import Queue
from podium_workers.runtime.taskapi import QUERY_BYTES, _parts

A, B, C = Queue("a"), Queue("b"), Queue("c", "studio")


def backlog(*queues, now=0.0):
    """One whose queues have just shown themselves."""
    made = Backlog(queues, poll_interval=1.0)
    for queue, count in made.share(0, now):
        made.answered(queue, count, 0, now)
    return made


def test_a_queue_in_a_domain_has_conductors_name():
    assert (str(A), str(C)) == ("a", "studio:c")


def test_slots_are_dealt_in_turns():
    made = backlog(A, B, C)
    made.saw({A: 10, B: 1, C: 10})
    assert dict(made.share(7, 1)) == {A: 3, B: 1, C: 3}


def test_the_longest_unasked_comes_first():
    made = backlog(A, B)
    made.saw({A: 9, B: 9})
    order = []
    for now in range(1, 5):
        ((queue, count),) = made.share(1, now)
        made.answered(queue, count, 1, now)
        order.append(queue)
    assert order == [A, B, A, B]


def test_a_queue_is_not_asked_twice_at_once():
    made = backlog(A)
    made.saw({A: 9})
    assert made.share(2, 1) == [(A, 2)]
    assert made.share(2, 1) == []
    made.failed(A)
    assert made.share(2, 1) == [(A, 2)]


def test_tasks_that_cannot_be_had_are_asked_for_less_and_less_up_to_the_interval():
    made, now, times = backlog(A), 1.0, []
    for _ in range(500):
        made.saw({A: 1})
        if made.share(5, now):
            made.answered(A, 1, 0, now)
            times.append(now)
        now += 0.01
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] < 0.15
    assert 0.95 < gaps[-1] < 1.05


def test_a_new_task_is_asked_for_at_once_beside_those_that_cannot_be_had():
    made = backlog(A)
    for now in (1.0, 2.0, 3.0):
        made.saw({A: 1})
        made.share(5, now)
        made.answered(A, 1, 0, now)
    made.saw({A: 1})
    assert made.share(5, 3.01) == []
    made.saw({A: 2})
    assert made.share(5, 3.02) == [(A, 2)]


def test_a_worker_shows_itself_even_when_all_slots_are_busy():
    made = backlog(A, B)
    assert made.share(0, PRESENCE_SECONDS - 1) == []
    assert made.share(0, PRESENCE_SECONDS) == [(A, 0), (B, 0)]


def test_a_pause_is_waited_for_and_nothing_that_is_over():
    made = Backlog([A, B], poll_interval=1.0, cpu_bound=[B])
    for queue, count in made.share(0, 0.0):
        made.answered(queue, count, 0, 0.0)
    made.saw({A: 1, B: 1})
    assert made.share(5, 1.0, processes=0) == [(A, 1)]
    assert made.next_at(1.0) == math.inf, "a process that gets free wakes the loop"
    made.failed(A)
    assert made.next_at(1.0) == math.inf, "so does the end of an outage"
    made.share(5, 1.0)
    made.answered(A, 1, 0, 1.0)
    made.saw({A: 1})
    assert made.next_at(1.0) == 1.1


QUEUES = st.lists(st.builds(Queue, st.sampled_from("abcdef")), unique=True, min_size=1)


@given(QUEUES, st.data(), st.integers(0, 20))
def test_never_more_than_is_free_and_none_idle_while_work_waits(queues, data, free):
    made = backlog(*queues)
    depths = {queue: data.draw(st.integers(0, 9)) for queue in queues}
    made.saw(depths)
    shares = dict(made.share(free, 1.0))
    assert sum(shares.values()) == min(free, sum(depths.values()))
    assert all(0 < count <= depths[queue] for queue, count in shares.items())
    most = max(shares.values(), default=0)
    for queue in queues:
        assert shares.get(queue, 0) >= min(most - 1, depths[queue])


@given(QUEUES, st.data(), st.integers(0, 20), st.integers(0, 4))
def test_computing_tasks_are_taken_for_free_processes_only_and_keep_no_slot_from_others(
    queues, data, free, processes
):
    computing = data.draw(st.sets(st.sampled_from(queues)))
    made = Backlog(queues, poll_interval=1.0, cpu_bound=computing)
    for queue, count in made.share(0, 0.0):
        made.answered(queue, count, 0, 0.0)
    depths = {queue: data.draw(st.integers(0, 9)) for queue in queues}
    made.saw(depths)
    shares = dict(made.share(free, 1.0, processes))
    taken = sum(count for queue, count in shares.items() if queue in computing)
    others = sum(depth for queue, depth in depths.items() if queue not in computing)
    assert taken <= processes
    wanted = min(processes, sum(depths[queue] for queue in computing))
    assert sum(shares.values()) == min(free, wanted + others)


@given(st.lists(st.builds(Queue, st.text(min_size=1, max_size=200)), max_size=300))
def test_depths_are_asked_for_in_addresses_that_conductor_takes(queues):
    parts = list(_parts(queues))
    assert [queue for part in parts for queue in part] == queues
    for part in parts:
        assert len(part) == 1 or sum(len(str(queue).encode()) for queue in part) <= QUERY_BYTES
