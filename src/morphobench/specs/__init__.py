"""Configuration and specs: read with line numbers, validated, resolved for a scale. Light to import."""

from morphobench.specs.digest import code_digest
from morphobench.specs.house import House, load_house

__all__ = ["House", "code_digest", "load_house"]
