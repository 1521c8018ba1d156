"""What thousands of tenants cost inside one process: `bench/scale.py` is its command."""
