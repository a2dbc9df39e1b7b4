"""YAML files and flags become one frozen Config. Read `load.py` first."""
