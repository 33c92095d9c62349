"""The RRD repository's commands run as written: python train.py --tag='RRD Ant-v2' --alg=rrd --env=Ant-v2"""

import sys

try:
    from apportion.legacy import main
except ModuleNotFoundError as error:
    if error.name != "apportion":
        raise
    sys.exit("train.py: apportion is not installed here; type: make install (or pip install -e .), then use its Python")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
