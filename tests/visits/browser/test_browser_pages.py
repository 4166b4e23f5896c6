"""The pages as people use them, in a real browser and by the keyboard alone: sending a spreadsheet, the duty desk."""

import json
import re
from pathlib import Path

import asyncpg
import httpx
import pytest
from playwright.async_api import Page, Route, expect

from tests.gateway import Gateway
from tests.visits.test_visits_desk import listed, missed
from tests.visits.visiting import COUNCIL, HERON

HEADER = "Visit;NHS number;Date;Planned start;Planned end;Carer;Arrived;Left;Notes"
ROTA = f"""Heron Homecare, Café Street;;;;;;;;
;;;Planned;;Actual;;;
{HEADER}
B1;9990000050;30/03/2026;07:30;08:00;C1;07:31;07:58;née Smith
B2;9990000050;03/04/25;07:30;08:00;C1;;;
B3;9990000051;30/03/2026;09:00;09:30;C1;;;
B4;9990000050;30/03/2026;12:30;12:00;C1;12:31;12:10;
"""
"""As a spreadsheet saves it: a title and merged headings above, semicolons, Windows-1252, a year of two digits."""
HEADINGS = ["Row", "Visit", "Status", "Column", "What is wrong", "What to do"]


def token(client: httpx.Client) -> str:
    return client.headers["authorization"].removeprefix("Bearer ")


async def reach(page: Page, name: str) -> None:
    """Goes on by the Tab key until what has the name is focused."""
    summary = page.locator("summary").filter(has_text=re.compile(f"^{name}$"))
    wanted = (
        page.get_by_label(name, exact=True)
        .or_(page.get_by_role("button", name=re.compile(f"^{name}")))
        .or_(summary)
        .first
    )
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("each => each === document.activeElement"):
            assert await wanted.evaluate("each => getComputedStyle(each).outlineStyle") != "none", (
                f"{name} shows its focus"
            )
            return
    pytest.fail(f"{name} is not reached by the keyboard")


INLINE = """() => {
  const made = document.createElement("script");
  try { made.textContent = "window.ran = true"; document.head.append(made); } catch { /* not even made */ }
  return window.ran === true;
}"""
ELSEWHERE = "() => fetch('http://127.0.0.2:9/').then(() => 'asked', (error) => error.name)"
KEPT = "() => [document.cookie, localStorage.length, sessionStorage.length]"


async def kept_in(page: Page, wrong: list[str]) -> None:
    """Its policy holds: no script but its own is run, nothing is fetched from elsewhere; nor is the token kept."""
    assert wrong == []
    assert await page.evaluate(KEPT) == ["", 0, 0]
    assert (await page.evaluate(INLINE), await page.evaluate(ELSEWHERE)) == (False, "TypeError")
    assert wrong and all("Content Security Policy" in each or "TrustedScript" in each for each in wrong), wrong
    wrong.clear()


def secret(key: Path) -> str:
    return str(json.loads(key.read_text())["d"])


def lines(path: Path) -> int:
    return path.read_text("utf-8-sig").count("\n")


async def test_a_spreadsheet_is_sent_and_each_row_answered(
    page: Page, wrong: list[str], gateway: Gateway, heron: httpx.Client, tmp_path: Path
) -> None:
    file = tmp_path / "rota.csv"
    file.write_bytes(ROTA.encode("cp1252"))
    await page.goto(f"{gateway.root}/homecare/upload")
    await reach(page, "I have an access token instead")
    await page.keyboard.press("Enter")
    await reach(page, "Access token")
    await page.keyboard.insert_text(token(heron))
    await reach(page, "File")
    await page.locator(":focus").set_input_files(file)  # what its dialogue is like is the browser's
    await reach(page, "Send")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("1 stored")
    await expect(page.get_by_role("status")).to_contain_text("3 refused")
    table = page.get_by_role("table", name="To be mended")
    assert await table.get_by_role("columnheader").all_text_contents() == HEADINGS
    rows = [await each.locator("td").all_text_contents() for each in await table.locator("tbody tr").all()]
    assert [each[:4] for each in rows] == [
        ["5", "B2", "refused", "Date"],
        ["6", "B3", "refused", "NHS number"],
        ["7", "B4", "refused", "Date, Planned end"],
        ["7", "B4", "refused", "Date, Left"],
    ]
    assert "four digits" in rows[0][4] and "30/03/2026" in rows[0][5]
    assert "9990000051" not in await page.content()
    await reach(page, "Download what is to be mended")
    async with page.expect_download() as downloaded:
        await page.keyboard.press("Enter")
    assert lines(await (await downloaded.value).path()) == 1 + len(rows)
    await kept_in(page, wrong)


async def test_who_has_a_key_file_needs_no_token(
    page: Page, wrong: list[str], gateway: Gateway, heron: httpx.Client
) -> None:
    """The key is signed with in the browser: nothing that is sent has it."""
    key = gateway.settings.data / "keys" / f"{HERON.id}.json"
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    await page.goto(f"{gateway.root}/homecare/upload")
    rota = {"name": "rota.csv", "mimeType": "text/csv", "buffer": HEADER.encode()}
    await page.get_by_label("File", exact=True).set_input_files(rota)
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("alert")).to_contain_text("Choose your key file")
    await page.get_by_label("Key file").set_input_files(key)
    await expect(page.get_by_label("Name of your system")).to_have_value(HERON.id)
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("status")).to_contain_text("0 stored")
    await expect(page.get_by_role("alert")).to_be_empty()
    assert any("client_assertion" in each for each in sent)
    assert not [each for each in sent if secret(key) in each]
    await kept_in(page, wrong)


async def test_a_file_that_cannot_be_read_is_said_aloud(
    page: Page, wrong: list[str], gateway: Gateway, heron: httpx.Client
) -> None:
    """Heard too: in a live region, of which a reader says what comes into it. Sent again, mended, the alert is gone."""
    await page.goto(f"{gateway.root}/homecare/upload")
    await page.get_by_text("I have an access token instead").click()
    await page.get_by_label("Access token").fill(token(heron))
    for name, text, told in (("rota.csv", "Visit;When\n", "The first row lacks"), ("rota.csv", HEADER, None)):
        await page.get_by_label("File", exact=True).set_input_files(
            {"name": name, "mimeType": "text/csv", "buffer": text.encode()}
        )
        async with page.expect_response("**/homecare/visits?*"):
            await page.get_by_role("button", name="Send").click()
        await expect(page.get_by_role("alert")).to_contain_text(told or "")
    assert [each for each in wrong if "status of 400" not in each] == [], "which the browser notes of any page"
    wrong.clear()
    await expect(page.get_by_role("alert")).to_be_empty()
    await expect(page.get_by_role("status")).to_contain_text("0 stored")


async def test_a_missed_visit_appears_at_the_desk_and_is_taken_in_hand(
    page: Page, wrong: list[str], gateway: Gateway, council: httpx.Client, connection: asyncpg.Connection
) -> None:
    await page.goto(f"{gateway.root}/homecare/desk")
    await reach(page, "I have an access token instead")
    await page.keyboard.press("Enter")
    await reach(page, "Access token")
    await page.keyboard.insert_text(token(council))
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Connected: alerts appear here")).to_be_visible()
    await expect(page.get_by_text("Nothing is wrong that the gateway knows of")).to_be_visible()
    id = await missed(connection, "nobody-came")
    alert = page.get_by_role("listitem").filter(has_text="Visit not started")
    await expect(alert).to_contain_text("Nobody has acknowledged it")
    await expect(page).to_have_title("(1) Duty desk: homecare visits")
    await reach(page, "Acknowledge: Visit not started")
    await page.keyboard.press("Enter")
    await expect(alert).to_contain_text("Acknowledged")
    await expect(page.locator("#news")).to_have_text("Acknowledged: Visit not started")
    assert await page.evaluate("document.activeElement.tagName") == "H3", "the focus stays with the alert"
    assert listed(council)[id]["status"] == "accepted"
    await kept_in(page, wrong)


async def test_the_desk_signs_in_by_its_key_and_again_when_its_token_has_run_out(
    page: Page, wrong: list[str], gateway: Gateway, council: httpx.Client
) -> None:
    """The first token is taken for one that has run out: the page gets another by itself, and says nothing of it."""
    keys, tokens = gateway.settings.data / "keys", list[str]()

    async def stream(route: Route) -> None:
        tokens.append(route.request.headers["authorization"])
        await (route.fulfill(status=401) if len(tokens) == 1 else route.continue_())

    await page.route("**/homecare/alerts/stream", stream)
    await page.goto(f"{gateway.root}/homecare/desk")
    await page.get_by_role("button", name="Connect").click()
    await expect(page.get_by_role("alert")).to_contain_text("Choose the desk's key file")
    await page.get_by_label("Key file").set_input_files(keys / f"{HERON.id}.json")
    await expect(page.get_by_label("Name of the system")).to_have_value(HERON.id)
    await page.get_by_label("Name of the system").fill(COUNCIL.id)
    await page.get_by_role("button", name="Connect").click()
    await expect(page.get_by_role("alert")).to_contain_text("The key is not accepted.")
    assert not tokens, "another's key opens nothing"
    await page.get_by_label("Key file").set_input_files(keys / f"{COUNCIL.id}.json")
    await page.get_by_role("button", name="Connect").click()
    await expect(page.get_by_text("Connected: alerts appear here")).to_be_visible()
    assert len(set(tokens)) == len(tokens) == 2
    assert [each for each in wrong if not re.search("status of 40[01]", each)] == [], "which are noted of any page"
    wrong.clear()
    await kept_in(page, wrong)


async def test_who_has_no_valid_token_is_told_what_to_do(page: Page, gateway: Gateway, wrong: list[str]) -> None:
    for path, button, told in (("upload", "Send", "get another"), ("desk", "Connect", "paste another")):
        await page.goto(f"{gateway.root}/homecare/{path}")
        await page.get_by_text("I have an access token instead").click()
        if path == "upload":
            rota = {"name": "rota.csv", "mimeType": "text/csv", "buffer": HEADER.encode()}
            await page.get_by_label("File", exact=True).set_input_files(rota)
        await page.get_by_label("Access token").fill("stale")
        await page.get_by_role("button", name=button).click()
        await expect(page.get_by_role("alert")).to_contain_text(told)
    assert [re.search("status of (.*) \\(", each)[1] for each in wrong] == ["401", "401"], "as of any page"
    wrong.clear()
