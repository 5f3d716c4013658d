"""The incident reports, claim by claim: what was said, what this repository measures, and what follows from it."""
