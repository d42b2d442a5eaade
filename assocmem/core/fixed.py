"""Objects whose public attributes are set once: other code has computed from them."""

from __future__ import annotations

from typing import Any


class Fixed:
    """A base class that refuses to set a public attribute again."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name in vars(self):
            raise AttributeError(f"{name} of a {type(self).__name__} cannot be changed; build another one")
        super().__setattr__(name, value)
