"""Training: the loop, the tape, evaluation, and the child processes they run in. Torch stops here."""
