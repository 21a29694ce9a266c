"""Measurements that the documents publish: scaling, pictures, baselines in torch and C. Not part of the wheel."""
