"""The limits that keep a hostile or broken file from taking the job down."""

MAX_LINE_BYTES = 16 * 2**20  # one JSON line
MAX_IMAGE_PIXELS = 178_956_970  # Pillow's own bound: 0.5 GB of RGB
MAX_IMAGE_BYTES = 256 * 2**20  # of an image that is no file of its own
MAX_COORDINATE = 1e6  # |x|, |y| of a point or a box edge, pixels
MAX_HEADER_BYTES = 16 * 2**20  # a checkpoint's header
MAX_RAW_CHARS = 1024  # how much of a broken line its failure record keeps
MAX_UNPACKED_BYTES = 32 * 2**30  # of a dataset's archive
MAX_UNPACKED_FILES = 1_000_000
