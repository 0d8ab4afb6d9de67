"""Many runs: comparisons now, searches and ablations later."""
