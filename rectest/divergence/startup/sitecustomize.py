"""Python runs this at the start of every process of a watched command, because its folder stands on ``PYTHONPATH``.

It starts the recording, takes its own folder off ``sys.path`` again (children still find it in the environment), and
then runs the ``sitecustomize`` that the environment has of its own, if any. Without a recording asked for it does
nothing else, and a failure of the recording is never one of the script.
"""

import importlib
import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_HERE = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = "_rectest_why"


def _load() -> None:
    """Load the recorder under a private name: rectest need not be installed here, and may be in another version."""
    folder = os.path.join(os.path.dirname(_HERE), "inside")
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        return
    package = sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    importlib.import_module(f"{_PACKAGE}.start").begin()


def _complain() -> None:
    """Leave the reason where `rectest.divergence.runs` looks for it; the script itself goes on."""
    import json
    import traceback

    try:
        folder = json.loads(os.environ["RECTEST_WHY"])["tape"]
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "start-error.txt"), "w", encoding="utf-8") as file:
            file.write(traceback.format_exc())
    except (OSError, ValueError, TypeError, KeyError):
        return


def _chain() -> None:
    """Run the environment's own ``sitecustomize`` in this one's place."""
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if os.environ.get("RECTEST_WHY"):
    try:
        _load()
    except Exception:
        _complain()
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
_chain()
