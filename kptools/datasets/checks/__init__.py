"""What `kp-prep check` looks for in the records of a dataset, one kind of fault a file."""
