"""Makes `rig` importable for every test, and names the components a run had to do without."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
