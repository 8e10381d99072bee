"""Reads and operates the page of a running server.

    browser.py SCENARIO SCENE

SCENE is a JSON object: where the server is, and what it was given. Ends with the line "seen".
"""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Far above what anything takes: it turns a hang into a failure.
PATIENCE = 30_000
SWITCHES = ["daily_report", "crash_reports", "version_check"]

scene = json.loads(sys.argv[2])
url = scene["url"]
expect.set_options(timeout=PATIENCE)


@contextmanager
def browsing():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def visit(browser, allowed=(), **options):
    """A new profile's page, which must end without a problem. Allowed are the failures that the scenario provokes."""
    problems = []
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))"
    )
    page = context.new_page()

    def on_console(message):
        # A refused request is an error in Chromium's eyes; asking whether there is a session is one of them.
        refused = any(failure in message.text for failure in ("with a status of 401 ", *allowed))
        if message.type in ("error", "warning") and not refused:
            problems.append(f"console: {message.text}")

    def on_dialog(dialog):
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", on_console)
    page.on("dialog", on_dialog)
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    context.on("request", lambda request: problems.append(request.url) if not request.url.startswith(url) else None)
    page.goto(url)
    yield page
    context.close()
    assert not problems, problems


def log_in(page, password=None):
    page.get_by_label("Username").fill(scene.get("user", "admin"))
    page.get_by_label("Password").fill(password or scene["password"])
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.locator("#login")).to_be_hidden()
    expect(page.locator("#page")).to_be_visible()
    # The lists come after the status.
    expect(page.locator("#history-about")).not_to_be_empty()
    if "crashes" in scene:
        expect(page.locator("#crash-list li")).to_have_count(scene["crashes"])


def switch(page, name):
    return page.locator(f"#{name}[role=switch]")


def row(page, name):
    return page.locator(f"[data-switch={name}]")


def is_on(page, name, on):
    expect(switch(page, name)).to_have_attribute("aria-checked", "true" if on else "false")


def stored():
    return json.loads((Path(scene["state"]) / "switches.json").read_text())


def command(*arguments, said=None):
    subprocess.run(
        [scene["program"], *arguments, "--state-dir", scene["state"]],
        check=True,
        text=True,
        input=said or "",
        stdout=subprocess.DEVNULL,
    )


def tab_to(page, name):
    """Presses Tab as a reader without a mouse does."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"Tab does not lead to {name}")


def login(browser):
    with visit(browser) as page:
        expect(page.locator("#page")).to_be_hidden()
        expect(page.locator("#username")).to_be_focused()
        page.keyboard.type("admin")
        page.keyboard.press("Tab")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#login-error")).to_have_text("Username or password is wrong.")
        expect(page.locator("#page")).to_be_hidden()
        expect(page.locator("#password")).to_be_focused()
        expect(page.locator("#password")).to_have_value("")
        page.keyboard.type(scene["password"])
        page.keyboard.press("Enter")
        expect(page.locator("#page")).to_be_visible()
        expect(page.locator("#user")).to_have_text("admin")
        # The session is the browser's: a reload needs no password, and after the log out one is needed again.
        page.reload()
        expect(page.locator("#page")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.locator("#login")).to_be_visible()
        expect(page.locator("#page")).to_be_hidden()
        page.reload()
        expect(page.locator("#login")).to_be_visible()


def switches(browser):
    with visit(browser) as page:
        log_in(page)
        for name in SWITCHES:
            is_on(page, name, True)
            for on in (False, True):
                switch(page, name).click()
                expect(row(page, name).locator(".said")).to_contain_text(f"is {'on' if on else 'off'}.")
                is_on(page, name, on)
                assert stored()[name] is on, stored()
        # The same without a mouse, and it lasts.
        page.reload()
        expect(page.locator("#page")).to_be_visible()
        for name in SWITCHES:
            tab_to(page, name)
            page.keyboard.press("Space")
            is_on(page, name, False)
            expect(row(page, name).locator(".said")).to_contain_text("is off.")
            expect(switch(page, name)).to_be_focused()
            assert stored()[name] is False, stored()
        page.reload()
        for name in SWITCHES:
            is_on(page, name, False)


def stale(browser):
    with visit(browser, allowed=["with a status of 412 "]) as page:
        # The page learns of the first status and of no other.
        answered = []

        def once(route):
            answered.append(route)
            if len(answered) == 1:
                route.continue_()

        page.route("**/v1/status", once)
        log_in(page)
        is_on(page, "crash_reports", True)
        command("disable", "crash-reports")
        switch(page, "daily_report").click()
        expect(row(page, "daily_report").get_by_role("alert")).to_contain_text("Somebody else changed the settings")
        # It shows what they are now, and nobody's change was lost.
        is_on(page, "crash_reports", False)
        is_on(page, "daily_report", True)
        assert stored()["crash_reports"] is False and stored().get("daily_report", True) is True, stored()
        switch(page, "daily_report").click()
        is_on(page, "daily_report", False)
        expect(row(page, "daily_report").locator(".said")).to_contain_text("Telemetry is off.")
        expect(row(page, "daily_report").get_by_role("alert")).to_be_empty()
        assert stored()["crash_reports"] is False and stored()["daily_report"] is False, stored()


def held(browser):
    with visit(browser) as page:
        log_in(page)
        requests = []
        page.on("request", lambda request: requests.append(request.method))
        is_on(page, "daily_report", False)
        is_on(page, "crash_reports", True)
        button = switch(page, "daily_report")
        expect(button).to_have_attribute("aria-disabled", "true")
        expect(button).to_have_accessible_description(
            # What a screen reader says with the switch.
            re.compile("Held off by environment DISABLE_TELEMETRY")
        )
        button.click(force=True)
        expect(row(page, "daily_report").get_by_role("alert")).to_have_text("Telemetry cannot be turned on here.")
        tab_to(page, "daily_report")
        page.keyboard.press("Space")
        is_on(page, "daily_report", False)
        assert "PUT" not in requests, requests
        # One process holds it off for itself: the others send, and that is what the switch says.
        off_in_one = "Off in controlplane (pid 1) by environment DISABLE_ERROR_REPORTING; on elsewhere."
        expect(row(page, "crash_reports")).to_contain_text(off_in_one)
        expect(switch(page, "crash_reports")).to_have_accessible_description(re.compile("Off in controlplane"))
        page.screenshot(path=f"{scene['pictures']}/held.png", full_page=True)


def accessibility(browser):
    axe = Axe()

    def judge(page, what):
        violations = axe.run(page).response["violations"]
        assert not violations, (what, json.dumps(violations, indent=1))
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{what}: scrolls by {overflow} px"
        page.screenshot(path=f"{scene['pictures']}/{what}.png", full_page=True)

    for scheme in ("light", "dark"):
        for width in (360, 1280):
            what = f"{scheme}-{width}"
            options = {"color_scheme": scheme, "reduced_motion": "reduce"}
            with visit(browser, viewport={"width": width, "height": 800}, **options) as page:
                expect(page.locator("#login")).to_be_visible()
                judge(page, f"login-{what}")
                log_in(page)
                expect(page.locator("#history-chart rect.mark")).to_have_count(scene["tries"])
                judge(page, f"page-{what}")
                page.locator("#as-bytes").click()
                for details in page.locator("details").all():
                    details.locator("summary").click()
                judge(page, f"details-{what}")
                page.get_by_role("tab", name="Crash reporting").click()
                expect(page.locator("#crash-event")).to_be_visible()
                judge(page, f"crash-{what}")
                page.get_by_role("tab", name="Version check").click()
                judge(page, f"version-{what}")


def shown(browser):
    with visit(browser) as page:
        log_in(page)
        sent = Path(scene["report"]).read_bytes()
        expect(page.locator("#report-table table.records")).to_have_count(2)
        # Nothing of a report is markup: its text is there, and no element came of it.
        expect(page.locator("#report-table")).to_contain_text(json.dumps(scene["markup"])[1:-1])
        expect(page.locator("#report-table")).to_contain_text("18446744073709551615")
        expect(page.locator("#report-table")).to_contain_text("9007199254740993")
        page.locator("#as-bytes").click()
        expect(page.locator("#report-bytes")).to_be_visible()
        assert page.locator("#report-bytes").text_content().encode() == sent
        page.get_by_role("tab", name="Crash reporting").click()
        expect(page.locator("#crash-event")).to_contain_text(scene["markup"])
        assert page.locator("body script, main img").count() == 0
        # As many marks as data: one for each try; for crashes one for each day and ending, which its title counts.
        titles = page.locator("#history-chart rect.mark title").all_text_contents()
        assert len(titles) == scene["tries"], titles
        for result in ("delivered (HTTP 200)", "stored: connection refused", "refused for good (HTTP 400)"):
            assert sum(title.endswith(result) for title in titles) == scene["tries"] / 3, titles
        marks = page.locator("#crashes-chart rect.mark title").all_text_contents()
        counts = sorted(mark.split(": ")[1] for mark in marks)
        assert counts == ["1 × SIGABRT", "1 × SIGKILL", "1 × exit code", "2 × SIGSEGV"], marks
        page.locator("#history-details summary").click()
        expect(page.locator("#history-table tbody tr")).to_have_count(scene["tries"])


def long(browser):
    with visit(browser) as page:
        log_in(page)
        sent = Path(scene["report"]).read_bytes()
        about = page.locator("#report-about")
        expect(about).to_contain_text("The first 1 MiB of")
        # The group that is cut off is no table: of the other one the first records are.
        expect(page.locator("#report-table")).to_contain_text("The first 50 records.")
        expect(page.locator("#report-table .records thead th")).to_have_count(1 + 50)
        page.locator("#as-bytes").click()
        # Half a letter cannot be shown.
        shown = sent[: 1 << 20].decode(errors="ignore")
        assert len(shown.encode()) == (1 << 20) - 1
        assert page.locator("#report-bytes").text_content() == shown
        with page.expect_download() as download:
            about.get_by_role("link").click()
        assert download.value.suggested_filename == Path(scene["report"]).name
        assert Path(download.value.path()).read_bytes() == sent


def told(browser):
    with visit(browser) as page:
        log_in(page)
        news = page.locator("#news")
        expect(news).to_have_attribute("role", "status")
        for said in ("An upgrade is recommended", "Running2.8.1", "Latest2.9.0", "ODT-2026-014", "not verified"):
            expect(news).to_contain_text(said)
        expect(page.locator("#urgent")).to_be_empty()
        page.get_by_role("tab", name="Version check").click()
        answers = page.get_by_role("region", name="What was answered").locator("tbody tr")
        expect(answers).to_have_count(2)
        expect(answers.nth(0)).to_contain_text("2.9.0current2.9.0")
        expect(answers.nth(1)).to_contain_text("2.8.1upgrade recommended2.9.0")


def polled(page):
    """Waits until an answer to a poll that begins from now on has been shown."""
    with page.expect_request("**/v1/status") as asked:
        pass
    asked.value.response().finished()
    # The page's own reading of the answer comes first.
    page.evaluate("new Promise((then) => requestAnimationFrame(() => setTimeout(then)))")


def followed(browser):
    with visit(browser) as page:
        command("disable", "version-check")
        log_in(page)
        is_on(page, "version_check", False)
        summary = page.locator("#history-details summary")
        summary.click()
        expect(summary).to_be_focused()
        raw = page.locator("#report-bytes")
        page.locator("#as-bytes").click()
        raw.evaluate("(element) => { element.scrollTop = 40 }")
        summary.focus()
        # What is told to a screen reader, and what moves, from now on.
        page.evaluate(
            """() => {
                window.told = [];
                window.moved = 0;
                const note = (changes) => changes.forEach(({ target }) => told.push(target.textContent));
                const observer = new MutationObserver(note);
                for (const region of document.querySelectorAll("[role=status], [role=alert]")) {
                    observer.observe(region, { childList: true, characterData: true, subtree: true });
                }
                const sum = (list) => list.getEntries().forEach((entry) => { moved += entry.value; });
                new PerformanceObserver(sum).observe({ type: "layout-shift" });
            }"""
        )
        place = page.evaluate("scrollY")
        polled(page)
        command("enable", "version-check")
        command("disable", "crash-reports")
        is_on(page, "crash_reports", False)
        is_on(page, "version_check", True)
        expect(summary).to_be_focused()
        assert page.locator("#history-details").get_attribute("open") is not None
        assert raw.evaluate("(element) => element.scrollTop") == 40
        assert page.evaluate("[told, scrollY]") == [[], place]
        # A line that says that a switch is off comes and goes with it; what is not off does not move for a poll.
        before = page.evaluate("moved")
        polled(page)
        assert page.evaluate("[told, moved]") == [[], before]


def unreadable(browser):
    with visit(browser, allowed=["with a status of 409 "]) as page:
        # The page learns of no status between the first one and its own try.
        asked = []

        def once(route):
            asked.append(route)
            if len(asked) == 1 or put:
                route.continue_()

        put = []
        page.on("response", lambda response: put.append(response) if response.request.method == "PUT" else None)
        page.route("**/v1/status", once)
        log_in(page)
        (Path(scene["state"]) / "switches.json").write_text('{"daily_report": "off"}')
        switch(page, "daily_report").click()
        expect(row(page, "daily_report").get_by_role("alert")).to_contain_text("Your change was not made.")
        expect(page.locator("#unreadable")).to_contain_text("ondat-telemetry repair")
        for name in SWITCHES:
            is_on(page, name, False)
            expect(switch(page, name)).to_have_attribute("aria-disabled", "true")
        command("repair")
        page.reload()
        expect(page.locator("#page")).to_be_visible()
        expect(page.locator("#unreadable")).to_be_empty()
        for name in SWITCHES:
            is_on(page, name, False)
            expect(switch(page, name)).not_to_have_attribute("aria-disabled", "true")
        switch(page, "daily_report").click()
        is_on(page, "daily_report", True)


def lost(browser):
    with visit(browser, allowed=["net::ERR_"]) as page:
        log_in(page)
        page.route("**/v1/**", lambda route: route.abort())
        switch(page, "daily_report").click()
        alert = row(page, "daily_report").get_by_role("alert")
        expect(alert).to_have_text("The server does not answer. The switch shows what was last confirmed.")
        is_on(page, "daily_report", True)
        expect(page.locator("#connection")).to_contain_text("The server does not answer.")
        expect(page.locator("#history-chart rect.mark")).to_have_count(scene["tries"])
        page.unroute("**/v1/**")
        expect(page.locator("#connection")).to_be_empty()
        is_on(page, "daily_report", True)


def turn(browser):
    """Turns these switches off or on, and looks again after a reload."""
    with visit(browser) as page:
        log_in(page)
        for name in scene["switches"]:
            is_on(page, name, not scene["on"])
            switch(page, name).click()
            is_on(page, name, scene["on"])
            expect(row(page, name).locator(".said")).to_contain_text("Saved.")
        page.reload()
        expect(page.locator("#page")).to_be_visible()
        for name in SWITCHES:
            is_on(page, name, scene["on"] or name not in scene["switches"])


def ended(browser):
    with visit(browser) as page:
        log_in(page)
        page.get_by_role("tab", name="Crash reporting").click()
        command("password", said="another password\n")
        switch(page, "daily_report").click()
        expect(page.locator("#login")).to_be_visible()
        expect(page.locator("#login-why")).to_contain_text("Your session has ended.")
        assert page.evaluate("document.querySelector('#login').matches(':modal')"), "the page can still be operated"
        page.screenshot(path=f"{scene['pictures']}/ended.png")
        log_in(page, "another password")
        expect(page.locator("#panel-crash")).to_be_visible()
        is_on(page, "daily_report", True)
        assert not (Path(scene["state"]) / "switches.json").exists(), "the change that was refused was made"
        switch(page, "daily_report").click()
        is_on(page, "daily_report", False)
        assert stored()["daily_report"] is False


def plain(browser):
    """Without TLS where others can reach it: said to whoever is logged in."""
    with visit(browser) as page:
        expect(page.locator("#plain")).to_be_hidden()
        log_in(page)
        expect(page.locator("#plain")).to_contain_text("without TLS")


with browsing() as browser:
    {
        "login": login,
        "switches": switches,
        "stale": stale,
        "held": held,
        "accessibility": accessibility,
        "shown": shown,
        "long": long,
        "told": told,
        "followed": followed,
        "unreadable": unreadable,
        "lost": lost,
        "turn": turn,
        "ended": ended,
        "plain": plain,
    }[sys.argv[1]](browser)
print("seen")
