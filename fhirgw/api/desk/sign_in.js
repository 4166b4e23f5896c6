// Signs in by a key file (SMART Backend Services, RFC 7523). The private key is read and used in this page, which can
// sign with it and never tell it again: nothing that is sent, stored or shown has it.
"use strict";

const CURVE = { name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" };
const BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const NO_KEY = "This is no key file: it is the one that ends in .json, with a private key of the kind ES384.";
const UNSAFE = "A browser signs only on pages that it got safely (https): open this page so, or ask whoever runs the gateway.";

class Unable extends Error {}

function encoded(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

// Who signs: a system by its name, and its key.
async function signer(file, name) {
  if (!crypto.subtle) throw new Unable(UNSAFE);
  try {
    const { kty, crv, x, y, d, kid } = JSON.parse(await file.text());
    return { name, kid, key: await crypto.subtle.importKey("jwk", { kty, crv, x, y, d }, CURVE, false, ["sign"]) };
  } catch {
    throw new Unable(NO_KEY);
  }
}

async function asserted({ name, kid, key }, audience) {
  const text = new TextEncoder(), now = Math.floor(Date.now() / 1000);
  const claims = { iss: name, sub: name, aud: audience, iat: now, exp: now + 60, jti: crypto.randomUUID() };
  const parts = [{ alg: "ES384", typ: "JWT", kid }, claims].map((each) => encoded(text.encode(JSON.stringify(each))));
  return [...parts, encoded(await crypto.subtle.sign(CURVE, key, text.encode(parts.join("."))))].join(".");
}

// An access token for these scopes. Throws Unable where the key is not accepted.
async function granted(who, scope) {
  const known = await (await fetch("/fhir/.well-known/smart-configuration")).json();
  const body = new URLSearchParams({
    grant_type: "client_credentials", scope, client_assertion_type: BEARER,
    client_assertion: await asserted(who, known.token_endpoint),
  });
  const answer = await fetch("/fhir/oauth/token", { method: "POST", body, cache: "no-store" });
  const told = await answer.json();
  if (answer.ok) return told.access_token;
  if (answer.status >= 500 || answer.status === 429) throw new Error("the gateway is busy");
  throw new Unable(`The key is not accepted. ${told.error_description || ""} Check the name of your system.`);
}

// What a key file is called is mostly the name of its system.
function namedAfter(key, name) {
  key.addEventListener("change", () => {
    const file = key.files[0];
    if (file && !name.value) name.value = file.name.replace(/\.[^.]*$/, "");
  });
}
