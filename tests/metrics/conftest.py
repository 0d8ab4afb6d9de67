"""A hand-made split for the tests of this room."""

from tests.helpers.hand_made_split import make_split

__all__ = ["make_split"]
