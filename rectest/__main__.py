"""``python -m rectest``: the command ``rectest``, for launchers that start a module (``torchrun -m rectest``)."""

from __future__ import annotations

from rectest.cli import main

if __name__ == "__main__":
    main()
