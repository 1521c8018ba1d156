"""The socket half of the backpressure benchmark: `bench/backpressure_sockets.py` is its command."""
