"""The benchmark of the data plane: `bench/data_plane.py` is its command."""
