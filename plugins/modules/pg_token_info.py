#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_token_info
short_description: Look tokens up by id over all stores, and report what the stores hold
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Finds tokens by their ids in all token stores of a system and says of each which store has it and what its status is there.
  - Reports about each store, how many tokens there are by status and type, how many were issued and revoked on each day, which
    claims are issued together, and which active tokens are the newest. Around the stores, active clients, registrations, and codes
    of the last hour.
  - Everything is read in one snapshot, with one query for each report and store, and nothing is changed.
  - What the description does not declare is in RV(not_recorded), with the key to add. What cannot be read is in RV(unknown) with what
    would change that, and hides nothing else. Neither is ever an empty list that looks like an answer.
  - No secret leaves the database. The server itself works out a fingerprint, the first 12 hexadecimal digits of the SHA-256
    of the value, which tells secrets apart and finds one that is known (C(printf %s "$secret" | sha256sum)).
options:
  token_stores:
    description:
      - The token stores of the system, in the form of C(token_stores) in a system description.
      - What their C(tokens.secrets) and C(tokens.token) name is shown as a fingerprint, the id as well if it is among them.
    type: list
    elements: dict
    default: []
  stores:
    description:
      - The names of those stores that are looked at. All of them, if it is not given.
      - A list, or a text with commas or line ends between the names.
    type: raw
  ids:
    description:
      - The ids of tokens to look up, at most 1000. An id that a store's type of id cannot hold is just not in that store.
      - A list, or a text with commas or line ends between the ids.
      - Ansible itself shows the arguments of a task to whoever runs it with C(-vvv). Where ids are secrets, set C(no_log) on the task.
    type: raw
  reports:
    description:
      - Which reports to make, of V(counts), V(types), V(issued), V(claims), V(revocations), V(newest), V(clients), V(registrations)
        and V(codes).
      - All of them, if it is not given. None, if it is not given and O(ids) is, so that a look-up does not read whole tables.
      - A list, or a text with commas or line ends between the names.
    type: raw
  clients:
    description:
      - Where the clients are, in the form of C(clients) in a system description. What its C(secrets) name is shown as a fingerprint.
    type: dict
  registrations:
    description:
      - Where users register, in the form of C(registrations) in a system description.
    type: list
    elements: dict
    default: []
  codes:
    description:
      - Where one-time codes are, in the form of C(codes) in a system description. The codes themselves are shown as fingerprints.
    type: list
    elements: dict
    default: []
  days:
    description:
      - How many calendar days to report about, from 1 to 366. Today is the last of them.
      - The sets of claims are those of tokens issued in these days.
    type: int
    default: 30
  time_zone:
    description:
      - The zone whose calendar days are meant. Neither the zone of the session nor that of the role matters.
      - An empty string counts as not given.
    type: str
    default: UTC
  newest:
    description:
      - How many active tokens of each store, active clients, and codes of each table are listed at most, from 1 to 1000.
    type: int
    default: 100
  top:
    description:
      - How many sets of claims, types and providers are listed by themselves, from 1 to 1000. All others are one row.
    type: int
    default: 20
  clock_skew:
    description:
      - How far the clock of whoever accepts a token may be behind. It does not change the status, only C(accepted_until) and C(accepted).
      - An empty string counts as not given.
    type: str
    default: 5 min
notes:
  - A token is V(revoked) when its deny row is there, its own row says so, or it was issued before a limit. That wins over V(expired).
    A deny row without a token is V(revoked) as well, because whoever presents such a token is refused.
  - A token is V(expired) from its expiry on. It may still be accepted until C(accepted_until), for the clock skew on top of it.
  - A value of fewer than 16 characters has no fingerprint, because it could be found by trying. It is shown as C(too short).
  - The module fails if nothing could be read, and if O(ids) are given and a store could not be looked in, because that a token
    was not found then says nothing. A failed task returns the whole result.
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.attributes
  - pgops.runbook.attributes.read_only
seealso:
  - module: pgops.runbook.pg_token_revoke
"""

EXAMPLES = r"""
- name: Look a token up in all stores of TIM
  pgops.runbook.pg_token_info:
    login_host: db1.example.com
    login_db: tim
    token_stores: "{{ system_description.token_stores }}"
    ids: 4b2bc14c-c234-4f63-a4dd-4522860d9b36
  register: found

- name: Stop unless it is revoked
  ansible.builtin.assert:
    that: found.tokens[0].status == 'revoked'

- name: Report about the last week, in the days of Tallinn
  pgops.runbook.pg_token_info:
    login_db: oauth2
    token_stores: "{{ system_description.token_stores }}"
    clients: "{{ system_description.clients }}"
    registrations: "{{ system_description.registrations }}"
    codes: "{{ system_description.codes }}"
    days: 7
    time_zone: Europe/Tallinn

- name: Count the tokens of one table that no description has
  pgops.runbook.pg_token_info:
    login_db: shop
    token_stores:
      - name: sessions
        tokens:
          table: web.sessions
          id: id
          expires_at: {column: expires_at, time_zone: UTC}
          secrets: [session_token]
        revoke: {how: delete}
    reports: [counts]
"""

RETURN = r"""
as_of:
  description: The server's clock when it was read, to the second, in ISO 8601, UTC. All times of the result are written so.
  returned: when the database was read
  type: str
  sample: "2026-03-01T02:00:00+00:00"
time_zone:
  description: The zone whose days are meant.
  returned: when the database was read
  type: str
clock_skew_seconds:
  description: The clock skew.
  returned: when the database was read
  type: float
window:
  description: The days that are reported about, in C(first_day), C(last_day) and C(days).
  returned: when the database was read
  type: dict
  sample: {first_day: "2026-01-31", last_day: "2026-03-01", days: 30}
reports:
  description: The reports that were asked for.
  returned: when the database was read
  type: list
  elements: str
tokens:
  description: Every id of O(ids), in the order in which they were given.
  returned: when the database was read
  type: list
  elements: dict
  contains:
    id: {description: "The id as it was given; its fingerprint, if the id of a store is one of its secrets", type: str}
    status:
      description:
        - V(active), V(revoked), V(expired) or V(not_found). Of several rows, the first of these that one of them has.
        - V(unknown), if it was not found and a store could not be looked in.
      type: str
    stores: {description: The names of the stores that have it., type: list, elements: str}
    entries:
      description: Its rows in the stores, at most 10 of each.
      type: list
      elements: dict
      contains:
        store: {description: The store., type: str, sample: custom}
        status: {description: "V(active), V(revoked) or V(expired)", type: str}
        denied_only: {description: Whether only the deny list has the id. What a token's row would tell is left out then., type: bool}
        rows: {description: "How many rows the store has with this id; of V(denied_only) ones, how many deny rows", type: int}
        id: {description: "The id as the store has it; its fingerprint or null, if it is a secret", type: str}
        issued_at: {description: When it was issued., type: str}
        renewed_at: {description: "When it was last renewed; null where that is not recorded", type: str}
        expires_at: {description: When it expires or has expired; null for never., type: str}
        accepted_until: {description: "Until when it may be accepted, clock skew included; null if it is revoked and for never", type: str}
        revoked_by: {description: "V(denylist), V(timestamp), V(flag) or V(not_before); null if it is not revoked", type: str}
        revoked_at: {description: "When it was revoked, by the first of its deny rows; null where that is not recorded", type: str}
        denied_until: {description: "When the last of its deny rows expires and may be removed; null where it never does", type: str}
        reason: {description: The reason in its deny row., type: str}
        claims: {description: The names of its claims., type: list, elements: str}
        subject: {description: The user., type: str}
        client: {description: The client., type: str}
        tenant: {description: "The tenant; several, found in another table, are joined by commas", type: str}
        provider: {description: "The provider, likewise", type: str}
        type: {description: The type., type: str}
        scope: {description: The scope., type: str}
        address: {description: The address that it was issued to., type: str}
        family: {description: The chain or session., type: str}
        renewed_from: {description: The id of the token that it was renewed from., type: str}
        secrets: {description: The fingerprints of its secrets by the names of their columns., type: dict}
stores:
  description: Every store, in the order of the description. A report is null if it was not asked for, is not recorded or is unknown.
  returned: when the database was read
  type: list
  elements: dict
  contains:
    name: {description: The name., type: str, sample: custom}
    table: {description: The table of its tokens., type: str, sample: custom.jwt_metadata}
    how: {description: How it revokes., type: str, sample: denylist}
    status: {description: "V(ok), or V(unknown) if it cannot be read", type: str}
    counts:
      description:
        - How many tokens there are. C(total) is the sum of C(active), C(expired) and C(revoked).
        - C(expired) and C(revoked) are null where the store does not tell.
      type: dict
      contains:
        total: {description: All of them., type: int}
        active: {description: Those that are neither revoked nor expired., type: int}
        accepted: {description: Those that are active or have expired within the clock skew., type: int}
        expired: {description: Those that have expired and are not revoked., type: int}
        revoked: {description: Those that are revoked., type: int}
        denied_without_token: {description: How many deny rows no token belongs to; they are in none of the other numbers., type: int}
    types:
      description: The same numbers for each of the most frequent types, and for all others in a row whose C(others) is not 0.
      type: list
      elements: dict
      sample: [{type: access, others: 0, total: 1358, active: 543, accepted: 543, expired: 736, revoked: 79}]
    issued:
      description:
        - How many tokens were issued on each day, of those that are still there.
        - C(total) is the sum of the days, C(ahead) how many are dated after today.
      type: dict
      sample: {total: 619, ahead: 0, days: [{day: "2026-02-28", tokens: 401}, {day: "2026-03-01", tokens: 218}]}
    claims:
      description:
        - Which claims tokens have together, the most frequent sets first. The shares in percent sum to 100, C(others) included.
        - Of the tokens issued from C(since) on; of all tokens, if that is null.
      type: dict
      sample:
        since: "2026-01-31"
        total: 1229
        sets: [{claims: [name, sub], tokens: 1229, share_pct: 100.0}]
        others: {sets: 0, tokens: 0, share_pct: 0.0}
    revocations:
      description:
        - How many tokens were revoked on each day, with the mean hours from issue to revocation. A deny row is one revocation.
        - C(without_issue) of them have no time of issue, because there is no such token any more, and are not in the mean.
        - The numbers beside C(days) are those of all days, C(ahead) how many revocations are dated after today.
      type: dict
      sample:
        revocations: 27
        mean_hours: 1.35
        without_issue: 9
        ahead: 0
        days: [{day: "2026-03-01", revocations: 27, mean_hours: 1.35, without_issue: 9}]
    newest:
      description: The active tokens that were issued last, with the keys of RV(tokens[].entries) that tell of an active token.
      type: list
      elements: dict
clients:
  description: The clients; null if they were not asked for, are not declared or could not be read.
  returned: when the database was read
  type: dict
  contains:
    table: {description: The table., type: str, sample: public.clients}
    total: {description: How many there are., type: int}
    active: {description: How many have an active token; null where no store knows the client of a token., type: int}
    newest:
      description: The active ones that were created last, or all clients where RV(clients.active) is null.
      type: list
      elements: dict
      contains:
        id: {description: The id., type: str}
        name: {description: The name., type: str}
        created_at: {description: When it was registered., type: str}
        secrets: {description: The fingerprints of its secrets by the names of their columns., type: dict}
        active_tokens: {description: How many active tokens it has in all stores., type: int}
        last_issued_at: {description: When the last of these was issued., type: str}
registrations:
  description: The registrations of each table.
  returned: when the database was read
  type: list
  elements: dict
  contains:
    table: {description: The table., type: str, sample: public.users}
    total: {description: The sum of the days., type: int}
    ahead: {description: How many are dated after today., type: int}
    days:
      description: How many users registered on each day, and by how many providers; null where that is not recorded.
      type: list
      elements: dict
      sample: [{day: "2026-03-01", registrations: 10, providers_used: 3}]
    providers:
      description: How many users came from each of the most used providers, and from all others in a row whose C(others) is not 0.
      type: list
      elements: dict
      sample: [{provider: google, others: 0, registrations: 46}]
codes:
  description: The codes that each table got in the last hour.
  returned: when the database was read
  type: list
  elements: dict
  contains:
    table: {description: The table., type: str, sample: public.authorization_codes}
    total: {description: How many there are., type: int}
    used: {description: How many were used; null where that is not recorded., type: int}
    expired: {description: How many have expired without being used; null where that is not recorded., type: int}
    newest:
      description: The newest of them.
      type: list
      elements: dict
      contains:
        code: {description: The fingerprint of the code., type: str}
        status: {description: "V(open), V(used) or V(expired)", type: str}
        created_at: {description: When it was given out., type: str}
        expires_at: {description: When it expires or has expired., type: str}
        used_at: {description: When it was used., type: str}
        subject: {description: The user., type: str}
        client: {description: The client., type: str}
not_recorded:
  description: What the description does not declare, so that a report cannot tell it.
  returned: when the database was read
  type: list
  elements: dict
  contains:
    report: {description: The report., type: str, sample: types}
    about: {description: The store or table., type: str, sample: custom}
    key: {description: The key to add to the description; null if none would help., type: str, sample: "token_stores[custom].tokens.type"}
    message: {description: What is not recorded., type: str, sample: the type of a token}
unknown:
  description: What could not be read.
  returned: when the database was read
  type: list
  elements: dict
  contains:
    report: {description: "The report, V(ids) for a look-up, or V(store) for everything about a store", type: str}
    about: {description: The store or table., type: str}
    message: {description: Why., type: str}
    object: {description: The object that it is about., type: str}
    sqlstate: {description: The server's code of an error., type: str}
    hint: {description: What would change it., type: str}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import (
    CONNECTION_ARGUMENTS,
    application_name,
    keep_readable,
    says_nothing,
)
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._token_info import OPERATION, Options, fault_of, read_options, token_info

ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    # The ids of tokens are in none of these, only the names of tables and columns.
    "token_stores": {"type": "list", "elements": "dict", "default": [], "no_log": False},
    "stores": {"type": "raw"},
    "ids": {"type": "raw"},
    "reports": {"type": "raw"},
    "clients": {"type": "dict"},
    "registrations": {"type": "list", "elements": "dict", "default": []},
    "codes": {"type": "list", "elements": "dict", "default": []},
    "days": {"type": "int", "default": Options.days},
    "time_zone": {"type": "str", "default": Options.time_zone},
    "newest": {"type": "int", "default": Options.newest},
    "top": {"type": "int", "default": Options.top},
    "clock_skew": {"type": "str", "default": "5 min"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    keep_readable(module.no_log_values, module.params)
    try:
        for name in (one for one in ("stores", "ids", "reports") if says_nothing(module.params[one])):
            raise InvalidValue(f"{name}: is given and has no value in it", object_name=name)
        options = read_options(module.params)
        with connect(
            ConnectionOptions.from_params(module.params), application_name=application_name(OPERATION), read_only=True
        ) as database:
            result = token_info(database, options)
    except RunbookError as error:
        module.fail_json(**error.as_result())
    fault = fault_of(result)
    if fault:
        module.fail_json(msg=fault, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
