"""Training: pictures, loss, optimiser, loop, export."""
