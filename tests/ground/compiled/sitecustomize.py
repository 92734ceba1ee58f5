"""Keep the bytecode of what is imported out of a zip: Python itself compiles it again in every process.

Ansible sends a module with all that it imports as a zip of sources; compiling them is half of what a run of a module costs. Python finds
this file where its folder is on PYTHONPATH. The code of a source is kept by the digest of that source.
"""

from __future__ import annotations

import _imp
import contextlib
import hashlib
import marshal
import os
import sys
import zipimport
from pathlib import Path
from types import CodeType

KEPT = Path(__file__).resolve().parents[3] / ".cache" / "compiled" / f"{sys.implementation.cache_tag}-{sys.flags.optimize}"
_compile = zipimport._compile_source  # type: ignore[attr-defined]


def _code(place: str, source: bytes) -> CodeType:
    kept = KEPT / hashlib.sha256(source).hexdigest()
    try:
        code: CodeType = marshal.loads(kept.read_bytes())
    except (OSError, ValueError, EOFError, TypeError):
        code = _compile(place, source)
        _keep(kept, code)
    else:
        # As Python itself does with a file of bytecode: tracebacks name the zip of this run.
        _imp._fix_co_filename(code, place)  # type: ignore[attr-defined]
    return code


def _keep(kept: Path, code: CodeType) -> None:
    with contextlib.suppress(OSError):  # the disk is full, or this is an account that may not write here
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_name(f"{kept.name}.{os.getpid()}")
        fresh.write_bytes(marshal.dumps(code))
        fresh.replace(kept)


zipimport._compile_source = _code  # type: ignore[attr-defined]
