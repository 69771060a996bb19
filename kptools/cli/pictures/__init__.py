"""The commands of kp-viz, one a file."""
