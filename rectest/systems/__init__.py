"""Systems under test: training programs behind one protocol, one folder each."""
