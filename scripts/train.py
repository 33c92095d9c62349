"""The command that users of RRD on LIBERO know, as written: python scripts/train.py --env libero-10 --alg rrd ..."""

import sys

try:
    from apportion.legacy_libero import main
except ModuleNotFoundError as error:
    if error.name != "apportion":
        raise
    sys.exit("train.py: apportion is not installed here; type: make install (or pip install -e .), then use its Python")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
