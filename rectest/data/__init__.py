"""What a system is trained on: logs, id maps, readers of real formats, synthetic worlds, splits and negatives."""
