"""Records flow through a graph of plain Python steps."""
