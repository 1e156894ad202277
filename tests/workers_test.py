"""Work shared out to processes: answers in order, whatever happens to them. recognise_image_test.py has clusters."""
import functools
import os
import signal
import time

import pytest

from expressions.console import InputError
from expressions.workers import in_order, in_processes, on_cluster

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


def double_or_die(task, deadly=()):
    if task in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    if task % 3 == 0:
        time.sleep(0.01)  # they do not end in the order in which they began
    return 2 * task


def test_what_ends_its_process_is_named_and_all_else_is_answered_in_order():
    with in_processes(functools.partial(double_or_die, deadly=(3, 4, 17))) as call:
        answers = list(in_order(call, range(25), ahead=6, jobs=2))
    assert [(task, str(answer).partition(" the process")[0]) for task, answer in answers] == [
        (task, "ended" if task in (3, 4, 17) else str(2 * task)) for task in range(25)]


def test_only_a_few_are_taken_ahead_and_an_error_is_raised_here():
    taken = []
    answers = in_order(lambda task: 2 * task, (taken.append(task) or task for task in range(100)), ahead=6, jobs=2)
    for task, (_, answer) in zip(range(10), answers):
        assert len(taken) <= task + 6 and answer == 2 * task
    answers.close()
    with pytest.raises(TypeError), in_processes(double_or_die) as call:
        list(in_order(call, [1, "text"], ahead=6, jobs=2))


@pytest.mark.parametrize("address", ["garbage", "http://127.0.0.1:9", "tcp://127.0.0.1"])
def test_what_is_no_address_of_a_scheduler_is_said_at_once(address):
    with pytest.raises(InputError, match=f"an address like .* instead of {address}"), on_cluster(len, address, ()):
        pass
