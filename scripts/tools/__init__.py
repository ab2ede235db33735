"""Obtaining the parts of the platform; needs nothing but Python itself."""

from scripts.tools.obtain import ensure
from scripts.tools.parts import MissingTool, Tool
from scripts.tools.search import find

__all__ = ["MissingTool", "Tool", "ensure", "find"]
