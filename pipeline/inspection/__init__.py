"""The first-contact checks: whether an archive's files mean what the reader takes them to mean."""
