"""Searches over config keys with Ray Tune: space, sampler, trials, trial store, leaderboard."""
