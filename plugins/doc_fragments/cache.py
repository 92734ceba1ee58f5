# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How to reach the caches of a system."""

    DOCUMENTATION = r"""
options:
  cache_connection:
    description:
      - How to reach the caches, over what C(caches) of the system says.
    type: dict
    suboptions:
      host:
        description: Name or address of the server, or the path of its socket.
        type: str
      port:
        description: Its port.
        type: str
      database:
        description: The number of the database.
        type: str
      username:
        description: User to log in as.
        type: str
      password:
        description: Password of the user, or of the server.
        type: str
      tls:
        description: Whether the connection is encrypted.
        type: bool
      ca_cert:
        description: File with the certificates of the authorities that may have signed the server's certificate.
        type: path
      cert:
        description: File with the client's certificate.
        type: path
      key:
        description: File with the key of the client's certificate.
        type: path
      timeout:
        description: How long to wait for an answer, such as V(10 s).
        type: str
"""
