"""Human power, learned: for worlds too large to solve, or of which only samples can be had."""
