import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.training.freed_memory import keep_freed_memory

PAGES = 8 * 2**20 // resource.getpagesize()


def faults_of_a_second_array() -> int:
    """Pages that the kernel had to give for 8 MiB of which the thread has just let as much go."""
    np.zeros(8 * 2**20, np.uint8).fill(1)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    np.empty(8 * 2**20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def test_a_thread_gets_back_the_memory_that_it_freed():
    keep_freed_memory()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(faults_of_a_second_array).result()
        assert thread.submit(faults_of_a_second_array).result() < PAGES / 10
