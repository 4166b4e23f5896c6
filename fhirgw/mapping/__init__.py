"""One declaration read both ways: rows of a system of record <-> FHIR resources. Its only I/O is reading them."""
