"""Learn ten digit classes in five tasks of two classes, without revisiting old images and without forgetting.

The final weights equal those of training on all images at once: the state of the ridge rule is a sum over the stored
pairs, so their order does not matter. (A network trained by gradient descent on one task after the other would forget
the earlier ones.)
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from assocmem import AssociativeMemory, Ridge

images, labels = load_digits(return_X_y=True)
images = images / np.linalg.norm(images, axis=1, keepdims=True)
train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=397, random_state=0, stratify=labels)
one_hot = np.eye(10)


def new_memory() -> AssociativeMemory:
    """An empty classifier for 8 x 8 images and ten classes."""
    return AssociativeMemory(64, 10, expansion=16, rule=Ridge(alpha=0.1), whiten=False)


memory = new_memory()
for task in ([0, 1], [2, 3], [4, 5], [6, 7], [8, 9]):
    now = np.isin(train_y, task)
    memory.store(train_x[now], one_hot[train_y[now]])
    seen = test_y <= task[-1]
    accuracy = np.mean(memory.recall(test_x[seen]).argmax(axis=1) == test_y[seen])
    print(f"after classes {task}: {accuracy:.1%} on all {task[-1] + 1} classes seen so far")

joint = new_memory()
joint.store(train_x, one_hot[train_y])
difference = np.abs(memory.recall(test_x) - joint.recall(test_x)).max()
print(f"largest difference from training on all classes at once: {difference:.1e}")
assert difference < 1e-8
