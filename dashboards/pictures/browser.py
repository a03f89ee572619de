"""Grafana's components, bundled by esbuild, and the headless browser that draws them."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from dashboards.pictures.answers import WIDTH

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "render"
SECONDS: Final = 120.0
ROW, GAP, TOP = 30, 8, 96
"""Of Grafana's grid, in pixels, and what stands above it; render/page.tsx has them too."""
COMPLAINTS: Final = ("has no data", "Uncaught", "Minified React error")
"""What the page may not have said."""
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
OPTIONS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"),
    *("--virtual-time-budget=8000", "--allow-file-access-from-files"),
)


class BrowserError(Exception):
    """A picture cannot be drawn; the sentence says why and what to do."""


def bundle(folder: Path) -> None:
    """Put page.js, page.css and Grafana's icons there. Raises BrowserError."""
    (folder / "public").mkdir()
    (folder / "public" / "build").symlink_to(HERE / "node_modules" / "@grafana" / "ui" / "dist" / "public")
    esbuild = HERE / "node_modules" / ".bin" / "esbuild"
    options = ("--bundle", "--minify", "--jsx=automatic", "--format=iife", "--log-level=warning")
    loaders = ("--loader:.svg=dataurl", "--loader:.ttf=empty")
    defined = '--define:process.env.NODE_ENV="production"'
    said = _run(esbuild, PAGE / "page.tsx", *options, *loaders, defined, f"--outfile={folder / 'page.js'}")
    if not (folder / "page.js").exists():
        raise BrowserError(f"esbuild could not bundle the page:\n{said}")


def draw(answered: Mapping[str, Any], folder: Path, picture: Path) -> None:
    """Draw a dashboard, beside whose page the bundle lies. Raises BrowserError, also for a panel without data."""
    page = folder / f"{picture.stem}.html"
    data = msgspec.json.encode(answered).decode().replace("<", "\\u003c")
    page.write_text((PAGE / "page.html").read_text().replace("{dashboard}", data))
    boxes = [panel["gridPos"] for panel in answered["panels"]]
    height = TOP + max(box["y"] + box["h"] for box in boxes) * (ROW + GAP) + GAP
    picture.parent.mkdir(parents=True, exist_ok=True)
    size = f"--window-size={WIDTH},{height}"
    said = _run(_chromium(), *OPTIONS, size, f"--screenshot={picture.absolute()}", page.as_uri())
    complaints = [line for line in said.splitlines() if any(word in line for word in COMPLAINTS)]
    if complaints or not picture.exists():
        raise BrowserError(f"{picture} is not as it should be:\n" + "\n".join(complaints or [said]))
    if pngquant := shutil.which("pngquant"):
        _run(pngquant, "--force", "--skip-if-larger", "--ext", ".png", "--speed", "1", "128", str(picture))


def _chromium() -> str:
    for name in CHROMIUM:
        if found := shutil.which(name):
            return found
    raise BrowserError("Chromium is needed to draw pictures: `apt-get install chromium fonts-inter pngquant`.")


def _run(*command: str | Path) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise BrowserError(f"{command[0]} was not done after {SECONDS:g} s.") from None
    return done.stdout + done.stderr
