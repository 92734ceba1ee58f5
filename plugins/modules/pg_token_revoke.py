#!/usr/bin/python
# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_token_revoke
short_description: Revoke tokens by window, claim, subject, client, tenant, id or all, prove it, and take it back
version_added: 0.1.0
author:
  - pgops.runbook contributors (@pgops)
description:
  - Revokes the selected tokens in all token stores of a system, each in the store's own way, together with what hangs on them.
    Dependent rows, such as refresh tokens, open codes and allow rows, go as the description says.
  - Everything is looked up and counted first. A selection that a store cannot answer, a table or column that is missing, a
    privilege that is lacking, or more tokens than O(max_tokens) or O(max_share) allow end the run before the first change.
  - The first pass contains. Then the module waits for the transactions that were open, at most for O(max_wait), and goes over the
    stores again until a pass finds nothing, so that tokens that were being issued meanwhile are revoked as well.
  - Tokens that were renewed from a selected one go with it, to the end of the chain, also if they were issued after the window.
  - After the last commit it verifies in a fresh snapshot that no selected token is accepted any more, deletes the cached sessions,
    and asks the introspection endpoint about a sample, where the options say so.
  - A second run finds nothing to do and returns RV(ignore:changed=false).
  - With O(state=reinstated) it takes back exactly what one revocation changed, and nothing that was revoked before or after it.
options:
  token_stores:
    description:
      - The token stores of the system, in the form of C(token_stores) in a system description.
    type: list
    elements: dict
    required: true
  stores:
    description:
      - The names of those stores that the revocation is about. All of them, if it is not given.
      - A list, or a text with commas or line ends between the names.
    type: raw
  select:
    description:
      - Which tokens to revoke. Criteria are joined by AND, the values of one criterion by OR.
      - Required for O(state=revoked), and refused for O(state=reinstated). An empty selection is refused; everything is O(select.all).
      - A criterion that one of the stores has no column for is refused. O(stores) leaves that store out.
      - What is empty counts as not given, as a survey sends it. A text of commas and spaces alone is refused, since the other criteria
        would mean more without it.
      - A criterion with several values is a list, or a text with commas or line ends between the values.
    type: dict
    suboptions:
      issued_from:
        description:
          - Tokens that were issued at this time or later, in ISO 8601 with a zone, such as V(2026-01-15T10:00:00Z).
          - A fraction of a second is rounded down, because times of issue are whole seconds in tokens. RV(window) says so.
        type: str
      issued_to:
        description:
          - Tokens that were issued before this time. A fraction of a second is rounded up.
        type: str
      claims:
        description:
          - Tokens that have one of these claim keys, as a whole and exactly as it is written.
        type: raw
      claim_pattern:
        description:
          - Tokens that have a claim key like this. C(*) stands for anything, every other character for itself.
          - It needs O(max_tokens) or O(max_share). RV(stores[].matched_claims) lists the keys that it matched.
        type: str
      ids:
        description:
          - Tokens with one of these ids. RV(not_found) counts those that no store has.
        type: raw
      subjects:
        description:
          - Tokens of one of these subjects, that is users.
        type: raw
      clients:
        description:
          - Tokens of one of these clients.
        type: raw
      tenants:
        description:
          - Tokens of one of these tenants.
        type: raw
      providers:
        description:
          - Tokens that came by one of these providers of identities.
        type: raw
      types:
        description:
          - Tokens of one of these types.
        type: raw
      scopes:
        description:
          - Tokens that have one of these scopes, each a whole word of the token's scopes.
        type: raw
      addresses:
        description:
          - Tokens that were issued to one of these addresses, or to an address in one of these networks.
        type: raw
      families:
        description:
          - Tokens of one of these chains or sessions.
        type: raw
      all:
        description:
          - All tokens. It cannot stand beside other criteria.
        type: bool
        default: false
  state:
    description:
      - V(revoked) revokes the selected tokens.
      - V(reinstated) takes back what the revocation O(revocation_id) changed.
    type: str
    choices: [revoked, reinstated]
    default: revoked
  reason:
    description:
      - Why this is done. It is kept with the record of the revocation, and in the stores that have a column for it.
    type: str
    required: true
  requested_by:
    description:
      - Who asked for it. It is kept with the record.
    type: str
  revocation_id:
    description:
      - The name of the revocation, up to 100 letters, digits, dots, colons, hyphens and underscores.
      - Required for O(state=reinstated). For O(state=revoked) one is made up if it is not given.
    type: str
  clock_skew:
    description:
      - How far the clock of whoever accepts a token may be behind. A token counts as alive for so long after its expiry, and a
        deny row lives for so long after its token.
    type: str
    default: 5 min
  max_tokens:
    description:
      - Fail before the first change if more tokens than this would be revoked in all. The result holds the counts.
    type: int
  max_share:
    description:
      - Fail before the first change if more than so many percent of the accepted tokens of the chosen stores would be revoked.
    type: float
  batch_rows:
    description:
      - How many tokens one transaction revokes at most. Up to so many are one statement; more go in batches with a commit each,
        the newest and longest-lived tokens first.
    type: int
    default: 100000
  atomic:
    description:
      - Whether each pass over all stores is one transaction, so that all of it takes effect at one instant or none of it.
    type: bool
    default: false
  max_wait:
    description:
      - How long to wait for the transactions that were open, such as V(30 s). What they may still commit is looked for
        once more in any case, and RV(waited.still_open) lists those that had not ended.
    type: str
    default: 30 s
  sample:
    description:
      - How many ids of the selected tokens of a store the result shows, from 0 to 100.
    type: int
    default: 10
  caches:
    description:
      - The caches that hold sessions of the application, in the form of C(caches) in a system description. Those that name no
        C(keys) are left alone.
    type: list
    elements: dict
    default: []
  introspection:
    description:
      - A token introspection endpoint (RFC 7662) to ask about a sample of the revoked tokens. It needs a store that says in which
        column the token itself is.
    type: dict
    suboptions:
      url:
        description: The address of the endpoint.
        type: str
      client_id:
        description: The client to ask as.
        type: str
      client_secret:
        description: The secret of that client.
        type: str
      ca_cert:
        description: File with the certificates of the authorities that may have signed the endpoint's certificate.
        type: path
      timeout:
        description: How long to wait for an answer, such as V(10 s).
        type: str
      sample:
        description: How many tokens of each store to ask about.
        type: int
  revocation:
    description:
      - What is kept of a revocation, in the form of C(revocation) in a system description.
    type: dict
    suboptions:
      journal:
        description:
          - The schema that keeps what was changed, so that it can be taken back. It is made where it does not exist.
          - V(pgops_runbook), if it is not given.
        type: str
      audit:
        description: The table that gets a row for every revocation.
        type: str
extends_documentation_fragment:
  - pgops.runbook.postgresql
  - pgops.runbook.cache
  - pgops.runbook.attributes
attributes:
  check_mode:
    support: full
    details:
      - Counts by the very conditions that the run revokes by, in one read-only transaction. The numbers are those of a run at
        that instant. Neither the caches nor the introspection endpoint are changed or asked about tokens.
  diff_mode:
    support: none
    details:
      - The result counts the tokens of each store and claim set instead.
notes:
  - One revocation at a time on a database. A second one fails at once and names the first.
  - Times are compared by the server's clock, in the zone that the description gives to each column. Neither the zone of the session
    nor that of the role matters.
  - The ids in O(select) are not logged on the target, and the invocation in the result only counts them.
  - If a run is interrupted, what it has committed stays revoked. Run it again; it goes on from there.
  - What deleted rows held is kept in the schema O(revocation.journal), secrets included, so that it can be taken back. Only the role
    that made it may read it, and nothing removes it. The role P(pgops.runbook.token_revoke#role) shows how to.
  - The role needs C(TEMPORARY) on the database, to write the tables that are changed, and to write or make the schema
    O(revocation.journal).
  - A token that is accepted without asking the database stays accepted until it ends, and so does one that a service keeps in a cache
    of its own.
  - If a cache cannot be reached, the tokens are revoked in the database nevertheless, and the module fails and says what is left.
seealso:
  - module: pgops.runbook.pg_cleanup
"""

EXAMPLES = r"""
- name: Look at what was issued in an hour, by store and claim set, and change nothing
  pgops.runbook.pg_token_revoke: &incident
    login_host: db.example.com
    login_db: tim
    token_stores: "{{ system_description.token_stores }}"
    select: {issued_from: "2026-01-15T10:00:00Z", issued_to: "2026-01-15T11:00:00Z"}
    reason: "INC-4711: signing key leaked"
  check_mode: true

- name: Revoke it, but never more than half of the accepted tokens
  pgops.runbook.pg_token_revoke:
    <<: *incident
    max_share: 50
  register: revocation

- name: Take it back
  pgops.runbook.pg_token_revoke:
    login_host: db.example.com
    login_db: tim
    token_stores: "{{ system_description.token_stores }}"
    state: reinstated
    revocation_id: "{{ revocation.revocation_id }}"
    reason: "INC-4711: false alarm"

- name: Revoke the tokens of one store with a claim, as a whole key
  pgops.runbook.pg_token_revoke:
    login_db: tim
    token_stores: "{{ system_description.token_stores }}"
    stores: [custom]
    select: {claims: [admin]}
    reason: Administrators log in again after the change of roles

- name: Revoke the tokens with a claim that begins with admin, up to a thousand of them
  pgops.runbook.pg_token_revoke:
    login_db: tim
    token_stores: "{{ system_description.token_stores }}"
    select: {claim_pattern: "admin*"}
    max_tokens: 1000
    reason: Administrators log in again after the change of roles

- name: Revoke all that a user has
  pgops.runbook.pg_token_revoke:
    login_db: oauth2
    token_stores: "{{ system_description.token_stores }}"
    select: {subjects: ["4711"]}
    reason: Account taken over
    requested_by: security@example.com

- name: End the sessions of a tenant, in the database and in Redis
  pgops.runbook.pg_token_revoke:
    login_db: azth
    token_stores: "{{ system_description.token_stores }}"
    caches: "{{ system_description.caches }}"
    cache_connection: {host: redis.example.com, password: "{{ redis_password }}", tls: true}
    select: {tenants: [6f1c8dbe-52c5-4f28-9b5f-3f0f5f1c8dbe]}
    reason: Contract ended

- name: Revoke the tokens whose ids are in a file, and ask the server about some of them
  pgops.runbook.pg_token_revoke:
    login_db: oauth2
    token_stores: "{{ system_description.token_stores }}"
    select: {ids: "{{ lookup('ansible.builtin.file', 'leaked.txt') }}"}
    introspection: {url: "https://login.example.com/introspect", client_id: runbook, client_secret: "{{ introspection_secret }}"}
    reason: Found in a public repository

- name: Revoke everything, all stores in one transaction
  pgops.runbook.pg_token_revoke:
    login_db: tim
    token_stores: "{{ system_description.token_stores }}"
    select: {all: true}
    atomic: true
    reason: "INC-4711: signing key leaked"
"""

RETURN = r"""
revocation_id:
  description:
    - The name of the revocation, by which O(state=reinstated) takes it back.
    - Where nothing was there to revoke, nothing has been recorded under it. In check mode it is None, unless O(revocation_id) was given.
  returned: when the selection was looked up
  type: str
  sample: 20260115T110412Z-9f86d081
state:
  description: What was asked for, V(revoked) or V(reinstated).
  returned: when the selection was looked up
  type: str
  sample: revoked
reason:
  description: Why.
  returned: when the selection was looked up
  type: str
requested_by:
  description: Who asked for it.
  returned: when the selection was looked up
  type: str
role:
  description: The role of the database that did it.
  returned: when the selection was looked up
  type: str
as_of:
  description: The instant of the server's clock by which tokens count as expired, in ISO 8601, UTC.
  returned: for O(state=revoked)
  type: str
  sample: "2026-01-15T11:04:12.000013+00:00"
selection:
  description: The criteria. A list of more than 20 values is only its length, such as V(5000 values).
  returned: for O(state=revoked)
  type: dict
window:
  description: The window of times of issue, from C(from) on and before C(to), and whether it was C(rounded) to whole seconds.
  returned: for O(state=revoked), None without a window
  type: dict
selected:
  description: How many tokens the selection means, expired and revoked ones and renewed ones included, as the first look found them.
  returned: for O(state=revoked)
  type: int
expired:
  description: How many of them had expired.
  returned: for O(state=revoked)
  type: int
already_revoked:
  description: How many of them had been revoked before.
  returned: for O(state=revoked)
  type: int
pending:
  description: How many of them the first look found to revoke. Of a deny list, ids, since several tokens may have one.
  returned: for O(state=revoked)
  type: int
elsewhere:
  description: How many more of them go along with tokens of other stores. They are counted there, among RV(stores[].dependents).
  returned: for O(state=revoked)
  type: int
revoked:
  description:
    - How many the statements revoked. In check mode, how many they would revoke.
    - If the module fails, how many it had revoked by then. Those stay revoked.
  returned: for O(state=revoked)
  type: int
late:
  description: How many were found after the first pass, because they were being issued meanwhile.
  returned: for O(state=revoked)
  type: int
dependents:
  description: How many rows that hang on the tokens went with them.
  returned: for O(state=revoked)
  type: int
remaining:
  description: How many rows a fresh snapshot still found to change after the last pass. V(0) is the proof. None in check mode.
  returned: for O(state=revoked)
  type: int
passes:
  description: How many times the stores were gone over.
  returned: for O(state=revoked)
  type: int
waited:
  description: The wait for transactions that were open between two passes.
  returned: for O(state=revoked)
  type: dict
  contains:
    seconds:
      description: How long it took.
      type: float
    transactions:
      description: Which ones it was for, as C(count), C(writers), C(readers), and the first 20 of them in C(shown).
      type: dict
    still_open:
      description: Which of them had not ended after O(max_wait), in the same form.
      type: dict
stores:
  description: The numbers of each store.
  returned: for O(state=revoked)
  type: list
  elements: dict
  contains:
    name:
      description: The store's name.
      type: str
    how:
      description: The store's way to revoke, in the words of the system description.
      type: str
      sample: denylist
    selected:
      description: As RV(selected), in this store.
      type: int
    expired:
      description: As RV(expired), in this store.
      type: int
    already_revoked:
      description: As RV(already_revoked), in this store.
      type: int
    pending:
      description: As RV(pending), in this store.
      type: int
    elsewhere:
      description: As RV(elsewhere), in this store.
      type: int
    revoked:
      description: As RV(revoked), in this store.
      type: int
    extended:
      description: How many of them were denied already, but for less than the life of the token; their deny rows live longer now.
      type: int
    late:
      description: As RV(late), in this store.
      type: int
    remaining:
      description: As RV(remaining), in this store.
      type: int
    changed:
      description: Whether anything was changed for this store, or would be.
      type: bool
    accepted_before:
      description: How many tokens of the store were accepted before. None outside check mode without O(max_share).
      type: int
    share_pct:
      description: How many percent of them were to be revoked.
      type: float
    dependents:
      description: What went with the tokens, as C(table), C(change) (such as V(deleted)), C(pending) before and C(changed).
      type: list
      elements: dict
    claim_sets:
      description: The tokens to revoke by their C(claims), with C(tokens), the 50 most frequent sets. None where a store has no claims.
      type: list
      elements: dict
    matched_claims:
      description: Which claim keys O(select.claim_pattern) matched, as C(claim) and C(tokens), the first 50.
      type: list
      elements: dict
    sample:
      description: Ids of tokens to revoke, at most O(sample). Of a store whose ids are secret, fingerprints.
      type: list
      elements: str
    not_before:
      description: The moment before which the store accepts nothing now, where it is revoked by a limit.
      type: str
    batches:
      description: How many transactions revoked tokens.
      type: int
    first_effective_at:
      description: When the first of them had committed, by the server's clock.
      type: str
    effective_at:
      description: When the last of them had committed.
      type: str
    verified_at:
      description: When a fresh snapshot found no selected token accepted any more. None where it found some.
      type: str
not_found:
  description: How many of the ids in O(select.ids) neither have a token in any of the stores nor are denied. None without ids.
  returned: for O(state=revoked)
  type: int
caches:
  description: What became of the sessions in each cache, as C(cache) (where it is), C(deleted), C(remaining) and C(error).
  returned: for O(state=revoked)
  type: list
  elements: dict
introspection:
  description: How many tokens the endpoint was C(asked) about, how many are C(inactive) and C(still_active), and the C(errors).
  returned: for O(state=revoked), None without O(introspection)
  type: dict
undo:
  description: The options that take the revocation back, O(state) and O(revocation_id). None where nothing was revoked.
  returned: for O(state=revoked)
  type: dict
reinstated:
  description: How many rows are as they were before the revocation; in check mode, would be.
  returned: for O(state=reinstated)
  type: int
left:
  description: How many rows were left as they are, because somebody changed, removed or made them anew since.
  returned: for O(state=reinstated)
  type: int
changes:
  description: The same by C(store), C(table) and C(change), with C(rows) that the revocation changed, C(reinstated) and C(left).
  returned: for O(state=reinstated)
  type: list
  elements: dict
was_reinstated:
  description: Whether it had been taken back before.
  returned: for O(state=reinstated)
  type: bool
revoked_at:
  description: When the revocation began.
  returned: for O(state=reinstated)
  type: str
revoked_because:
  description: The reason of the revocation.
  returned: for O(state=reinstated)
  type: str
later:
  description:
    - The revocations that began later and still stand. Tokens that they selected as well and found revoked already are accepted
      again, until they are repeated.
  returned: for O(state=reinstated)
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import (
    CACHE_ARGUMENTS,
    CONNECTION_ARGUMENTS,
    application_name,
    given_parts,
    keep_readable,
    listed,
    says_nothing,
)
from ansible_collections.pgops.runbook.plugins.module_utils._connection import ConnectionOptions, connect
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._revocation import OPERATION, read_options, run
from ansible_collections.pgops.runbook.plugins.module_utils._token_store.selection import LISTS, SHOWN_VALUES

INTROSPECTION_ARGUMENTS = {
    "url": {"type": "str"},
    "client_id": {"type": "str"},
    "client_secret": {"type": "str", "no_log": True},
    "ca_cert": {"type": "path"},
    "timeout": {"type": "str"},
    "sample": {"type": "int"},
}
SELECT_ARGUMENTS = {
    "issued_from": {"type": "str"},
    "issued_to": {"type": "str"},
    "claim_pattern": {"type": "str"},
    "all": {"type": "bool", "default": False},
    **{name: {"type": "raw"} for name in LISTS},
}
ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    # The ids of tokens are in none of these, only the names of tables and columns.
    "token_stores": {"type": "list", "elements": "dict", "required": True, "no_log": False},
    "stores": {"type": "raw"},
    # So that thousands of ids are not written to the target's log. Results may show them: see main().
    "select": {"type": "dict", "options": SELECT_ARGUMENTS, "no_log": True},
    "state": {"type": "str", "choices": ["revoked", "reinstated"], "default": "revoked"},
    "reason": {"type": "str", "required": True},
    "requested_by": {"type": "str"},
    "revocation_id": {"type": "str"},
    "clock_skew": {"type": "str", "default": "5 min"},
    "max_tokens": {"type": "int", "no_log": False},
    "max_share": {"type": "float"},
    "batch_rows": {"type": "int", "default": 100000},
    "atomic": {"type": "bool", "default": False},
    "max_wait": {"type": "str", "default": "30 s"},
    "sample": {"type": "int", "default": 10},
    "caches": {"type": "list", "elements": "dict", "default": []},
    "cache_connection": {"type": "dict", "options": CACHE_ARGUMENTS},
    "introspection": {"type": "dict", "options": INTROSPECTION_ARGUMENTS},
    "revocation": {"type": "dict", "options": {"journal": {"type": "str"}, "audit": {"type": "str"}}},
}
PARTS = ("cache_connection", "introspection", "revocation")


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    written, given_stores = module.params["select"] or {}, module.params["stores"]
    select = {name: listed(value) if name in LISTS else value for name, value in given_parts(written).items()}
    secrets = {
        str(part) for name in PARTS for key, part in given_parts(module.params[name]).items() if key in ("password", "client_secret")
    }
    criteria = {str(one) for value in written.values() for one in (value if isinstance(value, list) else [value])}
    module.no_log_values.difference_update(criteria - secrets)
    keep_readable(module.no_log_values, module.params)
    parts = {name: given_parts(module.params[name]) for name in PARTS}
    parameters = {**module.params, **parts, "select": select, "stores": listed(given_stores)}
    # What the result repeats of the arguments: ids may be secret, and thousands of values would bury everything else.
    module.params["select"] = {
        name: f"{len(value)} values" if isinstance(value, list) and (name == "ids" or len(value) > SHOWN_VALUES) else value
        for name, value in select.items()
    }
    name = application_name(OPERATION)
    lists = {**{f"select.{one}": value for one, value in written.items() if one in LISTS}, "stores": given_stores}
    try:
        for path in (path for path, value in lists.items() if says_nothing(value)):
            raise InvalidValue(f"{path}: is given and has no value in it", object_name=path)
        options = read_options(parameters, name)
        with connect(ConnectionOptions.from_params(module.params), application_name=name, read_only=module.check_mode) as database:
            result, leave = run(database, options, check_mode=module.check_mode), module.exit_json
    except RunbookError as error:
        result, leave = error.as_result(), module.fail_json
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    leave(**result)


if __name__ == "__main__":
    main()
