"""The handlers of the extension for XLA, by which compiled code calls the core without Python: `handlers`."""

import re
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jax

from pynode import _core

MAJOR = "0"
"""Of XLA's interface, for which the handlers are."""


def interface() -> tuple[str, int] | None:
    """The version of the interface of the XLA that is installed, as its header says it; None where there is none."""
    if find_spec("jax.ffi") is None:
        return None
    import jax.ffi

    path = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    major, minor = (re.search(rf"^#define XLA_FFI_API_{part} (\d+)", text, re.M) for part in ("MAJOR", "MINOR"))
    return (major[1], int(minor[1])) if major and minor else None


@cache
def handlers() -> dict[str, str]:
    """What compiled code calls on a CPU, without Python.

    Without handlers solves go through Python: the same bits, some hundreds of microseconds later. There are none where
    pynode was built without XLA's header, where JAX is older than 0.5, and where XLA refuses those of that header's version.

    Returns
    -------
    dict
        Name of a primitive -> its target in XLA; empty where there are no handlers.

    Warns
    -----
    RuntimeWarning
        XLA refuses them.

    Examples
    --------
    >>> import pynode as pn
    >>> sorted(pn.jax.handlers()) in ([], ["backward", "solve"])
    True
    """
    version = interface()
    if version is None or version[0] != MAJOR:
        return {}
    jax.devices("cpu")  # XLA says at once then whether it takes them; before, it would fail where it starts
    found = {}
    for name, capsule in _core.xla_handlers(version[1]).items():
        target = f"pynode_{name}"
        try:
            jax.ffi.register_ffi_target(target, capsule, platform="cpu")
        except Exception as refused:
            warnings.warn(
                f"XLA refuses pynode's handlers, and solves go through Python: {refused}", RuntimeWarning, stacklevel=2
            )
            return {}
        found[name] = target
    return found
