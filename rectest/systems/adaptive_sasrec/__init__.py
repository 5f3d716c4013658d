"""SASRec with two optional additions: an adaptive similarity and smart negatives. The class is in `system`."""
