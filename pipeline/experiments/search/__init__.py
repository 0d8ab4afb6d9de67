"""Searches over config keys with Ray Tune: space, proposals, trials, ledger, leaderboard."""
