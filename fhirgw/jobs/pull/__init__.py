"""Taking another server's bulk export: a Bulk Data consumer with SMART Backend Services.

https://hl7.org/fhir/uv/bulkdata/export.html
"""
