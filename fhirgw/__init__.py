"""fhirgw: an async FHIR R4 gateway between adult social care and the NHS."""
