"""What a run asks of the processor."""

import torch

from apportion.train.process import torch_threads

SUBNORMAL = 1e-40


def test_a_run_takes_subnormal_numbers_for_zero_and_leaves_the_process_as_it_was():
    number = torch.tensor([SUBNORMAL])
    assert float(number * 1.0) > 0
    with torch_threads(1):
        assert float(number * 1.0) == 0
    assert float(number * 1.0) > 0
