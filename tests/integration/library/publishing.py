# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that works for some seconds and says how far it is.

The seconds of a work that is to be seen begin when there is a file, however long others take to see it.
"""

from __future__ import annotations

import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._progress import ProgressView, publisher

TOTAL = 100_000


def main() -> None:
    kinds = {"seconds": "float", "seen": "path", "table": "str", "fails": "bool"}
    module = AnsibleModule(argument_spec={name: {"type": kind} for name, kind in kinds.items()})
    seconds, seen, began = module.params["seconds"], module.params["seen"], time.monotonic()
    end = None if seen else began + seconds
    with publisher("publishing") as watch:
        while end is None or time.monotonic() < end:
            spent = time.monotonic() - began
            # Nobody knows when it is seen: it comes nearer to the end and never there.
            share = spent / (spent + 10) if seen else min(spent / seconds, 1)
            watch(ProgressView.after("publishing", module.params["table"], int(TOTAL * share), TOTAL, spent))
            time.sleep(0.05)
            if end is None and os.path.exists(seen):
                end = time.monotonic() + seconds
    if module.params["fails"]:
        module.fail_json(msg="as it was told to")
    module.exit_json(changed=True, kept="the result")


if __name__ == "__main__":
    main()
