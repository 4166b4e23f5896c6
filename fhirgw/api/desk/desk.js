// The duty desk's screen. The token stays in `token`: no storage, no cookie, no address has it; signed in by a key, the
// page gets another when it runs out. What is shown is put in as text, never as markup. The stream is read by fetch,
// because an EventSource cannot send a header.

const PRIORITY = { stat: "At once", asap: "As soon as possible", urgent: "Urgent", routine: "Routine" };
const ORDER = ["stat", "asap", "urgent", "routine"];
const alerts = new Map();
const names = new Map();
const byId = (id) => document.getElementById(id);
const SCOPE = "system/Task.rus system/Patient.r";
let token = "", place = "", attempt = 0, running = null, signing = null;

namedAfter(byId("key"), byId("name"));
byId("connect").addEventListener("submit", async (event) => {
  event.preventDefault();
  const pasted = byId("token").value.trim().replace(/^Bearer\s+/i, ""), file = byId("key").files[0];
  byId("token").value = "";
  byId("problem").textContent = "";
  if (running) running.abort();
  token = pasted;
  place = "";
  attempt = 0;
  try {
    if (!pasted && !file) throw new Unable("Choose the desk's key file, or paste an access token.");
    signing = pasted ? null : await signer(file, byId("name").value.trim());
    if (signing) await renew();
  } catch (error) {
    return problem(error instanceof Unable ? error.message : "The gateway does not answer: try again.");
  }
  follow();
});

async function renew() { token = await granted(signing, SCOPE); }

async function follow() {
  const mine = (running = new AbortController());
  while (token && !mine.signal.aborted) {
    let status = 0;
    try {
      say("Connecting.");
      const headers = { authorization: `Bearer ${token}`, accept: "text/event-stream" };
      if (place) headers["last-event-id"] = place;
      const answer = await fetch("/homecare/alerts/stream", { headers, signal: mine.signal, cache: "no-store" });
      if (answer.ok) connected();
      status = answer.ok ? await read(answer.body.getReader()) : answer.status;
      if (status === 401 && signing) {
        await renew();
        if (attempt++ === 0) continue; // a token has run out, as they do: that is no lost connection
        status = 0;
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error instanceof Unable) return problem(error.message);
    }
    if (refused(status)) return;
    attempt += 1;
    const seconds = Math.min(30, 2 ** attempt);
    say(`The connection is lost: what you see may be out of date. Trying again in ${seconds} seconds.`);
    await new Promise((done) => setTimeout(done, seconds * 1000));
  }
}

function connected() {
  attempt = 0;
  say("Connected: alerts appear here as they are raised.");
  byId("connect").hidden = true;
}

function refused(status) {
  const told = {
    401: "The token is not valid, or has run out: choose the key file, or paste another.",
    403: "This token may not see alerts: it needs the scopes system/Task.rs, and system/Task.rus to acknowledge.",
  }[status];
  if (status === 400) place = ""; // the place in the stream is not known any more
  if (told) problem(told);
  return Boolean(told);
}

function problem(told) {
  token = "";
  signing = null;
  say("Not connected: what you see may be out of date.");
  byId("connect").hidden = false;
  byId("problem").textContent = told;
  byId("key").focus();
}

async function read(reader) {
  const decoder = new TextDecoder();
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return 0;
    rest += decoder.decode(value, { stream: true });
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const text of events) {
      const status = take(text);
      if (status) return status;
    }
  }
}

function take(text) {
  const given = {};
  for (const line of text.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0) given[line.slice(0, at)] = line.slice(at + 2);
  }
  if (given.id) place = given.id;
  if (!given.event) return 0;
  const data = JSON.parse(given.data);
  if (given.event === "end") return data.status;
  if (given.event === "reset") for (const id of [...alerts.keys()]) remove(id);
  if (given.event === "gone") remove(data.id);
  if (given.event === "standing") for (const id of [...alerts.keys()]) if (!data.ids.includes(id)) remove(id);
  if (given.event === "alert") put(data);
  count();
  return 0;
}

function put(alert) {
  const known = alerts.get(alert.id);
  if (known && known.data.version > alert.version) return;
  if (!alert.open) {
    if (known) news(`Ended: ${alert.display}. ${alert.ended || ""}`);
    return remove(alert.id);
  }
  const item = known ? known.item : document.createElement("li");
  alerts.set(alert.id, { data: alert, item });
  draw(item, alert);
  if (!known) {
    item.className += " fresh";
    news(`${PRIORITY[alert.priority]}: ${alert.display}, since ${clock(alert.since)}`);
  }
  arrange();
}

function draw(item, alert) {
  const focused = item.contains(document.activeElement);
  item.className = alert.priority;
  const title = text("h3", "");
  title.tabIndex = -1;
  title.append(text("span", PRIORITY[alert.priority], "priority"), ` ${alert.display}`);
  const facts = document.createElement("dl");
  const fact = (what, value) => value && facts.append(text("dt", what), typeof value === "string" ? text("dd", value) : value);
  const since = text("dd", "");
  since.dataset.since = alert.since;
  since.textContent = ago(alert.since);
  fact("Since", since);
  fact("Person", named(alert.patient));
  fact("Care provider", alert.provider);
  fact("To act", alert.owner);
  fact("State", alert.status === "accepted" ? "Acknowledged" : "Nobody has acknowledged it");
  if (alert.escalates) fact("Escalates at", clock(alert.escalates));
  const last = (alert.steps || []).at(-1);
  if (last) fact("Last step", `${clock(last.time)}: ${last.text}`);
  item.replaceChildren(title, facts);
  if (alert.status === "requested") item.append(button(alert, title));
  if (focused) (item.querySelector("button") || title).focus();
}

function button(alert, title) {
  const made = text("button", "Acknowledge");
  made.type = "button";
  made.setAttribute("aria-label", `Acknowledge: ${alert.display}, since ${clock(alert.since)}`);
  made.addEventListener("click", async () => {
    if (made.getAttribute("aria-disabled") === "true") return;
    made.setAttribute("aria-disabled", "true");
    made.textContent = "Acknowledging";
    let told = "The gateway does not answer: try again.";
    try {
      const answer = await ask(`/homecare/alerts/${encodeURIComponent(alert.id)}/$acknowledge`, "POST");
      const body = await answer.json();
      if (answer.ok) {
        news(`Acknowledged: ${alert.display}`);
        title.focus();
        put(body);
        return count();
      }
      told = body.issue?.[0]?.diagnostics || told;
    } catch (error) { /* told below */ }
    made.setAttribute("aria-disabled", "false");
    made.textContent = "Acknowledge";
    news(`Not acknowledged: ${told}`);
    made.after(Object.assign(text("p", `Not acknowledged: ${told}`)));
  });
  return made;
}

// A person's name, if the token may read it: asked for once, by a read that the audit has.
function named(reference) {
  if (!reference) return null;
  const shown = text("dd", names.get(reference) || reference);
  if (!names.has(reference)) {
    names.set(reference, reference);
    ask(`/fhir/${reference}`).then((answer) => (answer.ok ? answer.json() : null)).then((person) => {
      const name = person?.name?.find((each) => each.use === "official") || person?.name?.[0];
      const spelt = name?.text || [...(name?.given || []), name?.family].filter(Boolean).join(" ");
      if (!spelt) return;
      names.set(reference, spelt);
      for (const { data, item } of alerts.values()) if (data.patient === reference) draw(item, data);
    }).catch(() => names.delete(reference));
  }
  return shown;
}

async function ask(address, method = "GET") {
  const once = () => fetch(address, { method, headers: { authorization: `Bearer ${token}`, accept: "application/json" }, cache: "no-store" });
  const answer = await once();
  if (answer.status !== 401 || !signing) return answer;
  await renew();
  return once();
}

function arrange() {
  const sorted = [...alerts.values()].sort((one, other) =>
    ORDER.indexOf(one.data.priority) - ORDER.indexOf(other.data.priority) || (one.data.since < other.data.since ? -1 : 1));
  sorted.forEach(({ item }, at) => {
    const there = byId("list").children[at];
    if (there === item) return;
    const focused = item.contains(document.activeElement) ? document.activeElement : null;
    byId("list").insertBefore(item, there || null);
    if (focused) focused.focus();
  });
}

function remove(id) {
  const known = alerts.get(id);
  if (!known) return;
  const focused = known.item.contains(document.activeElement);
  known.item.remove();
  alerts.delete(id);
  if (focused) byId("alerts").focus();
}

function count() {
  byId("count").textContent = `(${alerts.size})`;
  byId("none").hidden = alerts.size > 0;
  document.title = `${alerts.size ? `(${alerts.size}) ` : ""}Duty desk: homecare visits`;
}

function text(tag, words, style = "") {
  const made = document.createElement(tag);
  made.textContent = words;
  if (style) made.className = style;
  return made;
}

function clock(moment) {
  return new Intl.DateTimeFormat("en-GB", { timeZone: "Europe/London", hour: "2-digit", minute: "2-digit" }).format(new Date(moment));
}

function ago(moment) {
  const minutes = Math.max(0, Math.floor((Date.now() - new Date(moment)) / 60000));
  const told = minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${clock(moment)} (${told})`;
}

function say(words) { byId("state").textContent = words; }
function news(words) { byId("news").textContent = words; }

setInterval(() => {
  for (const each of document.querySelectorAll("[data-since]")) each.textContent = ago(each.dataset.since);
}, 20000);
