"""Correct what a trained network gets wrong by editing one layer, and see what else changed.

The last layer of a small network for handwritten digits is edited so that twenty misread images are read right. The
edit is the smallest change over the inputs that the layer usually sees; beside it, the smallest change of the weights
as such, which spills over to other images.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from assocmem import least_squares_edit

images, labels = load_digits(return_X_y=True)
images = images / 16
network = MLPClassifier((48,), tol=3e-3, max_iter=400, random_state=0).fit(images[:600], labels[:600])
weight, bias = network.coefs_[1].T, network.intercepts_[1]
hidden = np.maximum(images @ network.coefs_[0] + network.intercepts_[0], 0)


def accuracy(new_weight: np.ndarray) -> float:
    """Share of the images that were neither learnt from nor edited which are read right."""
    return float(np.mean((hidden[held_out] @ new_weight.T + bias).argmax(axis=1) == labels[held_out]))


outputs = hidden @ weight.T + bias
wrong = 600 + np.flatnonzero(outputs[600:].argmax(axis=1) != labels[600:])[:20]
held_out = np.setdiff1d(np.arange(600, len(images)), wrong)

# For each of them, the output of the right class becomes the largest by one.
wanted = outputs[wrong].copy()
wanted[np.arange(len(wrong)), labels[wrong]] = wanted.max(axis=1) + 1
learnt = hidden[:600]
covariance = learnt.T @ learnt / len(learnt)

print(f"{len(wrong)} misread images; the others are read right in {accuracy(weight):.1%}")
for name, metric, penalty in (
    ("smallest over usual inputs, exact", covariance, 0.0),
    ("smallest over usual inputs, penalty 10", covariance, 10.0),
    ("smallest as such, exact", np.eye(len(covariance)), 0.0),
):
    edit = least_squares_edit(weight, hidden[wrong], wanted - bias, metric, penalty=penalty)
    corrected = np.mean((hidden[wrong] @ edit.weight.T + bias).argmax(axis=1) == labels[wrong])
    locality = edit.locality(hidden[held_out])
    print(
        f"{name}: {corrected:.0%} of them right now, the others {accuracy(edit.weight):.1%}; their outputs changed by "
        f"{locality.mean_change:.1%} on average and by {locality.largest_change:.0%} at most, "
        f"mean cosine {locality.mean_cosine:.3f}"
    )
    if penalty == 0:
        assert corrected == 1
