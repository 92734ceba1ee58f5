"""The demo: the daily runbook on five databases with made-up data, on a server that is thrown away."""
