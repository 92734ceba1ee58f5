# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that works for some seconds and says how far it is."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgops.runbook.plugins.module_utils._progress import ProgressView, publisher

TOTAL = 100_000


def main() -> None:
    module = AnsibleModule(argument_spec={"seconds": {"type": "float"}, "table": {"type": "str"}, "fails": {"type": "bool"}})
    seconds, began = module.params["seconds"], time.monotonic()
    with publisher("publishing") as watch:
        while (spent := time.monotonic() - began) < seconds:
            watch(ProgressView.after("publishing", module.params["table"], int(TOTAL * spent / seconds), TOTAL, spent))
            time.sleep(0.05)
    if module.params["fails"]:
        module.fail_json(msg="as it was told to")
    module.exit_json(changed=True, kept="the result")


if __name__ == "__main__":
    main()
