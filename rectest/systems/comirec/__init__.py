"""The multi-interest retrieval trainer of report 000: iterator, five user models, sampled softmax, evaluation."""
