"""Benchmarks: each compares the collection with the plain SQL that a person would use, on equal databases in the same run."""
