"""`python -m fhirgw` is `fhirgw`."""

from fhirgw.cli import main

main()
