import subprocess
import sys


def test_importing_weights_imports_nothing_heavy_beside_torch():
    code = (
        "import sys, rarefy.weights; "
        "sys.exit(any(m in sys.modules for m in ('transformers', 'numba', 'scipy', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
