"""Learn ten digit classes in five tasks of two, never seeing an old image again, and forget nothing.

The weights after the last task equal those of joint training: the ridge rule's state is a sum over pairs, and a sum
does not care in which order its terms came. (A network trained by gradient descent would know only the last task.)
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
    """A head for ten classes over 64 pixels."""
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
print(f"largest difference from joint training: {difference:.1e}")
assert difference < 1e-8
