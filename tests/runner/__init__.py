"""Runs the checks of this repository in parallel and counts them: the engine behind `make test`."""
