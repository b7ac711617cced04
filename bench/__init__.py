"""What a node costs: each figure beside its floor, measured in the same round. `python -m bench` says how it stands."""
