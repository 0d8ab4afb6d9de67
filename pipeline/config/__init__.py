"""Settings: dataclasses per section, their rules, and how YAML and the command line fill them."""
