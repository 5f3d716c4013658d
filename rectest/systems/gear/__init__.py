"""The alternating regressor of report 004: what a user does next, and to which item. The class is in `system`."""
