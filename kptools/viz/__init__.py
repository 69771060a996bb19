"""Pictures of records and of training: what `kp-viz` writes, as functions."""
