"""The miniature archive as fixtures."""

from tests.helpers.archive_fixtures import archive_path, scene_path, write_archive_fixture

__all__ = ["archive_path", "scene_path", "write_archive_fixture"]
