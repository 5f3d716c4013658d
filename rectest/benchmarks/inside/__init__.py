"""What runs inside the processes that are measured, whatever commit's code they hold.

Loaded by path, never as a part of rectest: the tree under measurement may have an older rectest, or none.
"""
