"""Why the ground could not be laid; the tests turn these into a skip or an error with the same words."""

from __future__ import annotations


class GroundError(Exception):
    """A server, a system or a run of Ansible could not be set up."""


class NoServer(GroundError):
    """No installation of PostgreSQL fits, or it could not be fetched."""


class ProgramMissing(GroundError):
    """A program, such as pg_basebackup, is not installed, and could not be fetched."""


class StartFailed(GroundError):
    """The server did not come up; the message carries the end of its log."""


class ServerTooOld(GroundError):
    """The server is older than what shall run on it supports."""
