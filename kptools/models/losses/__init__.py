"""The losses, by name: one a file, which is imported when it is used.

The file of a loss of points has `loss(predicted, truth)`: (B, K, 2) and (B, K, 2), in fractions of
the input, to the loss of each coordinate, (B, K, 2). That of a loss of heatmaps has
`loss(logits, points, sigma, pos_weight)`, which gives a `Loss`.
"""

POINT_LOSSES = {
    "mse": "kptools.models.losses.mse",
    "l1": "kptools.models.losses.l1",
    "smooth_l1": "kptools.models.losses.smooth_l1",
    "wing": "kptools.models.losses.wing",
}
HEATMAP_LOSSES = {
    "bce": "kptools.models.losses.bernoulli",
}
INTEGRAL_LOSSES = {
    "integral": "kptools.models.losses.integral",
}
