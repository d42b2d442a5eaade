"""Correct the mistakes of a trained network by editing one layer, and measure the side effects.

The last layer of a small network for handwritten digits is edited so that twenty misclassified images are classified
correctly. Two edits are compared: the one that changes the outputs least on typical inputs of the layer, and the one
that changes the weights least, which affects other images more.
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
    """Accuracy on the images used neither for training nor for the edit."""
    return float(np.mean((hidden[held_out] @ new_weight.T + bias).argmax(axis=1) == labels[held_out]))


outputs = hidden @ weight.T + bias
wrong = 600 + np.flatnonzero(outputs[600:].argmax(axis=1) != labels[600:])[:20]
held_out = np.setdiff1d(np.arange(600, len(images)), wrong)

# Target outputs: the correct class wins by a margin of one.
wanted = outputs[wrong].copy()
wanted[np.arange(len(wrong)), labels[wrong]] = wanted.max(axis=1) + 1
trained_on = hidden[:600]
covariance = trained_on.T @ trained_on / len(trained_on)

print(f"{len(wrong)} misclassified images to correct; accuracy on the others before the edit: {accuracy(weight):.1%}")
for name, metric, penalty in (
    ("least change on typical inputs, exact", covariance, 0.0),
    ("least change on typical inputs, penalty 10", covariance, 10.0),
    ("least change of the weights, exact", np.eye(len(covariance)), 0.0),
):
    edit = least_squares_edit(weight, hidden[wrong], wanted - bias, metric, penalty=penalty)
    corrected = np.mean((hidden[wrong] @ edit.weight.T + bias).argmax(axis=1) == labels[wrong])
    locality = edit.locality(hidden[held_out])
    print(
        f"{name}: {corrected:.0%} corrected, accuracy on the others {accuracy(edit.weight):.1%}, their outputs changed "
        f"by {locality.mean_change:.1%} on average and {locality.largest_change:.0%} at most, "
        f"mean cosine {locality.mean_cosine:.3f}"
    )
    if penalty == 0:
        assert corrected == 1
