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


def open_sent(page, tab="Last report"):
    """What is sent is collapsed at first."""
    details = page.locator("#sent details.section")
    if details.get_attribute("open") is None:
        details.locator("summary").first.click()
    page.get_by_role("tab", name=tab).click()


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
        expect(page.locator("#verdict")).to_have_text("Everything is off. Nothing is sent.")
        expect(page.locator("#all-off")).to_be_hidden()
        # All three at once.
        for name in SWITCHES[:2]:
            switch(page, name).click()
            is_on(page, name, True)
        page.get_by_role("button", name="Turn all off").click()
        for name in SWITCHES:
            is_on(page, name, False)
            assert stored()[name] is False, stored()
        expect(page.locator("#version_check-held")).to_have_text("Off by the administrator, here or by the command.")


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


# What is wider than its box and neither scrolls nor shows that it goes on.
CUT = """[...document.querySelectorAll("#page *")].filter((element) => {
    const style = getComputedStyle(element);
    const isSeen = !element.closest(".unseen, thead") && element.checkVisibility();
    return isSeen && style.overflowX !== "visible" && element.scrollWidth > element.clientWidth + 1;
}).map((element) => element.outerHTML.slice(0, 200))"""


def judge(page, what, axe=Axe()):
    violations = axe.run(page).response["violations"]
    assert not violations, (what, json.dumps(violations, indent=1))
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"{what}: scrolls by {overflow} px"
    cut = page.evaluate(CUT)
    assert not cut, (what, cut)
    page.screenshot(path=f"{scene['pictures']}/{what}.png", full_page=True)


def accessibility(browser):
    for scheme in ("light", "dark"):
        for width in (360, 1280):
            what = f"{scheme}-{width}"
            options = {"color_scheme": scheme, "reduced_motion": "reduce"}
            # Nobody runs who could say what comes next.
            allowed = ["with a status of 404 "]
            with visit(browser, allowed, viewport={"width": width, "height": 800}, **options) as page:
                expect(page.locator("#login")).to_be_visible()
                judge(page, f"login-{what}")
                log_in(page)
                expect(page.locator("#history-days li")).to_have_count(30)
                page.screenshot(path=f"{scene['pictures']}/first-{what}.png")
                judge(page, f"page-{what}")
                open_sent(page)
                judge(page, f"report-{what}")
                page.get_by_role("button", name="Exact bytes").first.click()
                for details in page.locator("#scope, #history-details, #crashes-details").all():
                    details.locator("summary").click()
                page.locator("#diagnose").click()
                expect(page.locator("#diagnostics-text")).to_be_visible()
                judge(page, f"details-{what}")
                open_sent(page, "Next report")
                page.locator("#gather").click()
                expect(page.locator("#next-failed")).not_to_be_empty()
                judge(page, f"next-{what}")
                open_sent(page, "Crash reports")
                expect(page.locator("#crash-list pre").first).to_be_visible()
                judge(page, f"crash-{what}")
                open_sent(page, "Version query")
                judge(page, f"version-{what}")


def paper(browser):
    """On paper everything stands that can be opened, and the paper is light."""
    for scheme in ("light", "dark"):
        with visit(browser, color_scheme=scheme, viewport={"width": 1280, "height": 800}) as page:
            log_in(page)
            expect(page.locator("#report-view table")).to_have_count(1)
            page.emulate_media(media="print")
            for panel in ("report", "next", "crash", "version"):
                expect(page.locator(f"#panel-{panel}")).to_be_visible()
                expect(page.locator(f"#panel-{panel} .on-paper")).to_be_visible()
            for table in ("#report-view table", "#history-table table", "#crashes-table table"):
                expect(page.locator(table)).to_be_visible()
            fill = page.locator("#version_check .track").evaluate(
                "(track) => [getComputedStyle(track).backgroundColor, getComputedStyle(track).printColorAdjust]"
            )
            assert fill == ["rgb(12, 97, 88)", "exact"], fill
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == "rgb(255, 255, 255)", ground
            page.screenshot(path=f"{scene['pictures']}/print-{scheme}.png", full_page=True)
            page.pdf(path=f"{scene['pictures']}/print-{scheme}.pdf", format="A4", print_background=False)
            # As the reader had left it.
            page.emulate_media(media="screen")
            expect(page.locator("#report-view")).to_be_hidden()
            expect(page.locator("#history-table")).to_be_hidden()


def shown(browser):
    with visit(browser) as page:
        log_in(page)
        sent = Path(scene["report"]).read_bytes()
        expect(page.locator("#report-view")).to_be_hidden()
        open_sent(page)
        fields = page.locator("#report-view table.fields")
        # The fields, and the three of the envelope; no box in it scrolls.
        expect(fields.locator("tr:not(.group) > th[scope=row]")).to_have_count(scene["fields"] + 3)
        # Nothing of a report is markup: its text is there, and no element came of it.
        expect(fields).to_contain_text(scene["markup"])
        # The exact number and what it comes to.
        expect(fields).to_contain_text("18446744073709551615 16 EiB")
        expect(fields).to_contain_text("107374182400 100 GiB")
        fields.get_by_label("Which node is shown").select_option("2")
        expect(fields).to_contain_text("9007199254740993 8 PiB")
        expect(fields).to_contain_text("not answering")
        page.get_by_role("button", name="Exact bytes").first.click()
        expect(fields).to_be_hidden()
        assert page.locator("#report-view pre").text_content().encode() == sent
        open_sent(page, "Crash reports")
        expect(page.locator("#crash-list pre").first).to_contain_text(scene["markup"])
        assert page.locator("body script, main img").count() == 0
        # A day each, in words and not by colour alone.
        days = page.locator("#history-days .unseen").all_text_contents()
        states = [day.split(": ")[1] for day in days]
        assert states[19:] == scene["days"], states
        assert set(states[:19]) == {"not in use"}, states
        expect(page.locator("#history-about")).to_contain_text("3 delivered, 1 late, 1 waiting, 2 missing and 2 not known")
        marks = page.locator("#crashes-chart rect.mark title").all_text_contents()
        counts = sorted(mark.split(": ")[1] for mark in marks)
        assert counts == ["1 × SIGABRT", "1 × SIGKILL", "1 × exit code", "2 × SIGSEGV"], marks
        page.locator("#history-details summary").click()
        rows = page.locator("#history-table tbody tr")
        expect(rows).to_have_count(scene["tries"])
        for result in ("Delivered (HTTP 200).", "Stored: connection refused.", "Refused for good (HTTP 400)."):
            expect(rows.filter(has_text=result)).to_have_count(scene["tries"] // 3)
        expect(rows.first).to_contain_text("4313 bytes (4.21 KiB)")


def unused(browser):
    with visit(browser) as page:
        log_in(page)
        verdict = page.locator("#verdict")
        expect(verdict).to_contain_text("No process has ever used this state directory.")
        # What is changed here is this node's, and it is named.
        for place in ("#node", "#scope-here"):
            expect(page.locator(place)).to_contain_text(scene["node"])
            expect(page.locator(place)).to_contain_text(scene["state"])
        assert "cluster-wide" not in page.locator("body").inner_text()
        expect(page.locator("#processes-about")).to_contain_text("not known here: no process runs")
        expect(page.locator("#history-about")).to_have_text("No report within the last 30 days.")


def starting(browser):
    with visit(browser) as page:
        log_in(page)
        expect(row(page, "daily_report").locator(".where")).to_contain_text("To 127.0.0.1:9.")
        expect(row(page, "crash_reports").locator(".where")).to_contain_text("To sentry.example.com.")
        expect(row(page, "version_check").locator(".where")).to_contain_text("In zone latest.example.com.")
        expect(row(page, "daily_report").locator(".success")).to_contain_text("Last deliverednone is known")
        expect(row(page, "daily_report").locator(".waiting")).to_have_text("Waitingnothing")
        expect(page.locator("#processes-about")).to_contain_text("By the word of 2 running processes.")
        expect(page.locator("#processes-list tbody tr")).to_have_count(2)
        expect(page.locator("#processes-differ")).to_be_empty()
        expect(page.locator("#history-days .unseen").last).to_contain_text("not made yet")


def waiting(browser):
    with visit(browser, viewport={"width": 1280, "height": 800}) as page:
        log_in(page)
        expect(page.locator("#verdict")).to_contain_text("Telemetry")
        expect(page.locator("#verdict")).to_contain_text("not get through")
        waits = row(page, "daily_report").locator(".waiting")
        expect(waits).to_contain_text("1 report, ")
        # Why, in words, and beside it when it is tried again.
        expect(waits.locator(".why")).to_contain_text("onnection refused")
        expect(waits).to_contain_text("Next try in")
        expect(waits).to_contain_text("https://127.0.0.1")
        # Two words, each by its name; the person's does not lift the client's.
        held = page.locator("#crash_reports-held")
        expect(held).to_contain_text("Held off by the API client, such as the operator or the product's command line.")
        switch(page, "crash_reports").click(force=True)
        expect(row(page, "crash_reports").get_by_role("alert")).to_contain_text("cannot be turned on here")
        switch(page, "version_check").click()
        expect(page.locator("#version_check-held")).to_have_text("Off by the administrator, here or by the command.")
        words = stored()["words"]
        assert words["api"]["crash_reports"] is False and words["api"]["version_check"] is True, words
        assert words["administrator"]["crash_reports"] is True and words["administrator"]["version_check"] is False, words
        switch(page, "version_check").click()
        is_on(page, "version_check", True)
        # Whoever else speaks for all nodes is named where it is said how to do it for all.
        expect(page.locator("#scope-known")).to_contain_text("an API client, such as the operator")
        expect(page.locator("#scope-known")).to_be_visible()
        about = page.locator("#about-state")
        for said in ("Log leveldebug", "Log formatjson", f"Node{scene['node']}", "Created20"):
            expect(about).to_contain_text(said)
        expect(page.locator("#history-days .unseen").last).to_contain_text("waiting")
        open_sent(page)
        expect(page.locator("#report-view table.fields")).to_contain_text("v1.34.1")
        judge(page, "waiting-1280")


def differing(browser):
    with visit(browser, viewport={"width": 360, "height": 800}) as page:
        log_in(page)
        expect(page.locator("#processes-differ")).to_contain_text("“Versions are asked for in”")
        settings = page.locator("#processes-settings")
        expect(settings).to_contain_text("another.example.com")
        expect(settings).to_contain_text(re.compile(r"api \(pid \d+\): another.example.com"))
        judge(page, "differing-360")


def ending(browser):
    with visit(browser) as page:
        log_in(page)
        expect(page.locator("#processes-about")).to_contain_text("not known here: no process runs")
        expect(page.locator("#processes-settings")).to_be_empty()
        expect(page.locator("#verdict")).to_contain_text("not get through")


def long(browser):
    with visit(browser) as page:
        log_in(page)
        sent = Path(scene["report"]).read_bytes()
        about = page.locator("#report-about")
        expect(about).to_contain_text("The first 1 MiB of")
        open_sent(page)
        # The group that is cut off is no table: of the other one the first records are.
        expect(page.locator("#report-view")).to_contain_text("of those shown, the first 50 can be chosen")
        expect(page.get_by_label("Which volume is shown").locator("option")).to_have_count(50)
        page.get_by_role("button", name="Exact bytes").first.click()
        # Half a letter cannot be shown.
        shown = sent[: 1 << 20].decode(errors="ignore")
        assert len(shown.encode()) == (1 << 20) - 1
        assert page.locator("#report-view pre").text_content() == shown
        with page.expect_download() as download:
            about.get_by_role("link").click()
        assert download.value.suggested_filename == Path(scene["report"]).name
        assert Path(download.value.path()).read_bytes() == sent


def huge(browser):
    """A report that is larger than is good for a page, and more crashes than anybody reads."""
    with visit(browser) as page:
        log_in(page)
        expect(page.locator("#report-about")).to_contain_text("The first 1 MiB of 64 MiB is shown.")
        assert page.evaluate("document.documentElement.textContent.length") < 1 << 18, "shown without being asked for"
        open_sent(page)
        expect(page.locator("#report-view")).to_contain_text("Not even the first line is within what is shown here.")
        page.get_by_role("button", name="Exact bytes").first.click()
        assert len(page.locator("#report-view pre").text_content()) == 1 << 20
        open_sent(page, "Crash reports")
        listed = page.locator("#crash-list li")
        expect(listed).to_have_count(50)
        # The latest one is opened; the others have their bytes when they are.
        expect(page.locator("#crash-list pre:not(:empty)")).to_have_count(1)
        page.locator("#crash-more").click()
        expect(listed).to_have_count(100)
        expect(listed.nth(50).locator("summary")).to_be_focused()
        listed.nth(50).locator("summary").click()
        expect(page.locator("#crash-list pre:not(:empty)")).to_have_count(2)
        expect(page.locator("#crashes-about")).to_contain_text("1000 crashes within the last 30 days")


def hostile(browser):
    """Names that would be markup, or turn the text around, are seen for what they are."""
    with visit(browser) as page:
        log_in(page)
        # Processes of an older version do not say where to.
        expect(row(page, "daily_report").locator(".where")).to_contain_text("Where to is not known here.")
        expect(page.locator("#verdict")).to_contain_text("does not get through.")
        open_sent(page, "Crash reports")
        page.locator("#diagnose").click()
        expect(page.locator("#diagnostics-text")).to_be_visible()
        expect(page.locator("#processes-list")).to_contain_text("data‹U+202E›plane<b>‹U+0007›")
        expect(page.locator("#crash-list .what").first).to_contain_text("ended ‹U+2066›<i>")
        text = page.evaluate("document.documentElement.outerHTML + document.title")
        unseen = re.findall(
            "[\u0000-\u0008\u000e-\u001f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]", text
        )
        assert not unseen, unseen
        assert page.locator("#page b, #page i, #page script, #page img").count() == 0
        judge(page, "hostile-1280")


def following(browser):
    """What would be sent next: what comes, and what does not."""
    with visit(browser, allowed=["with a status of 404 ", "with a status of 409 ", "with a status of 504 "]) as page:
        log_in(page)
        open_sent(page, "Next report")
        gather = page.locator("#gather")
        failed = page.locator("#next-failed")
        answers = []
        page.route("**/v1/report/next", lambda route: route.fulfill(**answers.pop(0)))
        for status, error in (
            (404, "no running process on this state directory makes reports"),
            (409, "the daily report is off by environment DISABLE_TELEMETRY of dataplane (pid 1)"),
            (504, "dataplane (pid 1) does not answer"),
        ):
            answers.append({"status": status, "json": {"error": error}})
            expect(gather).to_have_text("Gather now")
            gather.click()
            expect(failed).to_have_text(f"{error[0].upper()}{error[1:]}. Nothing was gathered.")
            expect(page.locator("#next-view")).to_be_hidden()
        sent = Path(scene["report"]).read_bytes()
        identity = Path(scene["report"]).stem[11:]
        headers = {
            "Content-Type": "application/jsonl",
            "Ondat-Telemetry-Report": identity,
            "Ondat-Telemetry-Sealed-Bytes": "1733",
        }
        answers.append({"status": 200, "headers": headers, "body": sent})
        gather.click()
        about = page.locator("#next-about")
        expect(about).to_contain_text("Nothing of it was sent or stored.")
        expect(about).to_contain_text(f"{identity[:12]}…")
        expect(about).to_contain_text("1733 bytes (1.69 KiB)")
        expect(failed).to_be_empty()
        about.locator("button[data-id]").click()
        expect(about.locator("code")).to_have_text(identity)
        expect(page.locator("#next-view tr:not(.group) > th[scope=row]")).to_have_count(scene["fields"] + 3)
        page.locator("#next-view").get_by_role("button", name="Exact bytes").click()
        assert page.locator("#next-view pre").text_content().encode() == sent
        with page.expect_download() as download:
            about.get_by_role("link").click()
        assert Path(download.value.path()).read_bytes() == sent
        judge(page, "gathered-1280")


def diagnosed(browser):
    with visit(browser) as page:
        log_in(page)
        text = page.locator("#diagnostics-text")
        expect(text).to_be_hidden()
        expect(page.locator("#diagnose-about a")).to_have_count(0)
        page.locator("#diagnose").click()
        expect(text).to_contain_text('"ondat_telemetry"')
        with page.expect_download() as download:
            page.locator("#diagnose-about a").click()
        # What is saved is what was shown.
        assert Path(download.value.path()).read_text() == text.text_content()
        said = json.loads(text.text_content())
        assert said["status"]["state_dir"] == scene["state"], said
        assert re.fullmatch(r"ondat-telemetry-diagnostics-[\w.-]+\.json", download.value.suggested_filename)


def refused(browser):
    """A server that wants nothing, or never answers, is said; what was known stays."""
    allowed = [f"with a status of {status} " for status in (429, 500, 503)]
    with visit(browser, allowed=[*allowed, "net::ERR_"]) as page:
        page.route(
            "**/v1/session",
            lambda route: route.fulfill(status=429, headers={"Retry-After": "6"}, json={"error": "try again in 6 s"}),
        )
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(scene["password"])
        page.get_by_role("button", name="Log in", exact=True).click()
        expect(page.locator("#login-error")).to_have_text("Try again in 6 s.")
        page.unroute("**/v1/session")
        page.route("**/v1/reports", lambda route: route.fulfill(status=500, json={"error": "report.json is damaged"}))
        page.get_by_label("Password").fill(scene["password"])
        page.get_by_role("button", name="Log in", exact=True).click()
        # One list that cannot be read does not take the other one with it.
        expect(page.locator("#history-failed")).to_have_text("The history cannot be shown: report.json is damaged.")
        expect(page.locator("#crash-list li")).to_have_count(scene["crashes"])
        expect(page.locator("#connection")).to_be_empty()
        connection = page.locator("#connection")
        for answer, said in (
            (
                {"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": "too many requests at once"}},
                "Too many requests at once.",
            ),
            ({"status": 503, "body": "<h1>gone</h1>"}, "The server answers with HTTP 503."),
            ({"status": 200, "body": "<h1>log in at the gateway</h1>"}, "The server broke off its answer."),
        ):
            page.route("**/v1/status", lambda route, request, answer=answer: route.fulfill(**answer))
            expect(connection).to_contain_text(said)
            is_on(page, "daily_report", True)
            page.unroute("**/v1/status")
            expect(connection).to_be_empty()
        # Never is after a while.
        held = []
        page.route("**/v1/status", lambda route: held.append(route))
        expect(connection).to_contain_text("The server does not answer.")
        page.unroute("**/v1/status")
        expect(connection).to_be_empty()


def told(browser):
    with visit(browser) as page:
        log_in(page)
        news = page.locator("#news")
        expect(news).to_have_attribute("role", "status")
        for said in ("An upgrade is recommended", "Running2.8.1", "Latest2.9.0", "ODT-2026-014", "Signaturenot known"):
            expect(news).to_contain_text(said)
        expect(page.locator("#urgent")).to_be_empty()
        open_sent(page, "Version query")
        answers = page.get_by_role("table", name="What was answered").locator("tbody tr")
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
        open_sent(page)
        raw = page.locator("#report-view pre")
        page.get_by_role("button", name="Exact bytes").first.click()
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
        expect(page.locator("#history-days li")).to_have_count(30)
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
        open_sent(page, "Crash reports")
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
    with visit(browser, viewport={"width": 1280, "height": 800}) as page:
        expect(page.locator("#plain")).to_be_empty()
        log_in(page)
        expect(page.locator("#plain")).to_contain_text("This page comes over plain HTTP")
        judge(page, "plain-1280")


with browsing() as browser:
    {
        "login": login,
        "switches": switches,
        "stale": stale,
        "held": held,
        "accessibility": accessibility,
        "paper": paper,
        "unused": unused,
        "starting": starting,
        "waiting": waiting,
        "differing": differing,
        "ending": ending,
        "huge": huge,
        "hostile": hostile,
        "following": following,
        "diagnosed": diagnosed,
        "refused": refused,
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
