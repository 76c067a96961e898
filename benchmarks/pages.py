"""What reports of real sections show in a browser: `python -m benchmarks.pages RESULT ...` prints a table of them.

Each folder is one that `stmmr run` wrote. It needs playwright, Chromium (of the system, or the path in STMMR_CHROMIUM)
and axe (`axe.min.js` of the npm package axe-core, named in STMMR_AXE).
"""

import argparse
import os
import shutil
from pathlib import Path

READY = "document.documentElement.dataset.ready"
FIRST_SCREEN = [".facts", "#map", "#legend", ".answer", ".answer li:last-child"]
INSIDE = """parts => parts.every((part) => {
  const { left, top, right, bottom } = document.querySelector(part).getBoundingClientRect();
  return left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
})"""
AXE = "axe.run().then(({ violations }) => violations.map(({ id }) => id))"
SCREEN = {"width": 1280, "height": 720}
VIEWS = {
    "light": {"viewport": SCREEN},
    "dark": {"viewport": SCREEN, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
}


def main():
    """Print a row for each result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    results = parser.parse_args().results
    from playwright.sync_api import sync_playwright

    axe = Path(os.environ["STMMR_AXE"]).read_text(encoding="utf-8")
    chromium = os.environ.get("STMMR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    header = ["report", "size", "processor until usable", "first screen", "axe", "errors", "requests", "fits a phone"]
    print("|", " | ".join(header), "|")
    with sync_playwright() as playwright:
        options = {"executable_path": chromium, "args": ["--no-sandbox", "--enable-unsafe-swiftshader"]}
        browser = playwright.chromium.launch(**options)
        for result in results:
            page = (result / "report.html").resolve()
            seen = {name: looked_at(browser, page, axe, view) for name, view in VIEWS.items()}
            seconds = sorted(each["seconds"] for each in seen.values())[1]
            found = {name: sum(len(each[name]) for each in seen.values()) for name in ("axe", "errors", "requests")}
            inside, wide = ("yes" if yes else "no" for yes in (seen["light"]["inside"], seen["phone"]["fits"]))
            size = f"{page.stat().st_size / 1e6:.1f} MB"
            print(
                "|", " | ".join([result.name, size, f"{seconds:.1f} s", inside, *map(str, found.values()), wide]), "|"
            )
        browser.close()


def looked_at(browser, page, axe, view):
    """Open a page, and look at its geometry, its messages and what axe finds."""
    context = browser.new_context(**view)
    tab, errors, requests = context.new_page(), [], []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url) if request.url.startswith("http") else None)
    session = context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    tab.goto(page.as_uri())
    tab.wait_for_function(READY)
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    tab.wait_for_function(f"{READY} === 'all'")
    inside = tab.evaluate(INSIDE, FIRST_SCREEN)
    fits = tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.add_script_tag(content=axe)
    found = tab.evaluate(AXE)
    context.close()
    seconds = metrics["TaskDuration"]
    return {"seconds": seconds, "inside": inside, "fits": fits, "axe": found, "errors": errors, "requests": requests}


if __name__ == "__main__":
    main()
