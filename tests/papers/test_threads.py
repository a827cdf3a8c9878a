"""Two small tasks at a time: results in order, one of torch's threads each, no trace left."""

import torch

from rarefy.papers._threads import one_thread, side_by_side


def test_tasks_keep_their_order_and_run_on_one_thread_each():
    before = torch.get_num_threads()
    found = side_by_side([lambda i=i: (i, torch.get_num_threads()) for i in range(5)])
    assert found == [(i, 1) for i in range(5)]
    assert torch.get_num_threads() == before


def test_a_single_task_keeps_the_threads_it_is_given():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert side_by_side([torch.get_num_threads]) == [2]
        with one_thread():
            assert side_by_side([torch.get_num_threads]) == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
