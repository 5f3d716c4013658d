"""Where did two runs part, and which line did it: the engine of ``rectest why``.

`inside` works in the process of the watched script and writes tapes; everything else reads them.
"""
