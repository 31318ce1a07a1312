"""python -m pynode"""

import sys

from pynode.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
