"""The colours of what is drawn."""

Rgb = tuple[int, int, int]
TRUTH: Rgb = (226, 26, 28)
PREDICTION: Rgb = (0, 90, 255)
BOX: Rgb = (255, 200, 0)
INK: Rgb = (20, 20, 20)
PALE: Rgb = (110, 110, 110)
EMPTY: Rgb = (238, 238, 238)
PAPER: Rgb = (255, 255, 255)
ZOOM = 4  # drawn so much larger than shown
