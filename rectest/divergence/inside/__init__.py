"""What runs inside the watched process: it imports nothing but the standard library until the script imports more.

The script may live in an environment in which rectest is not installed, so these modules import each other relatively
and touch torch and NumPy only where the script's own interpreter has them; xxhash may be borrowed (`hashing`). They
never draw a random number, never change a tensor, a flag or a thread count (but for pins, which are asked for), and
leave nothing behind when they are removed.
"""
