"""The pictures of README and docs, made anew by the commands that stand beside them.

python benchmarks/pictures.py        # writes docs/pictures; needs the command `chromium`
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from mmf.extract.sample_set import make_sample_set

PICTURES = Path(__file__).parents[1] / "docs/pictures"
ITEM = "blue-high/clip_003.mp4"
SMALL = "--fusion-option hidden=32 --fusion-option blocks=2"
COMMANDS = f"""
mmf extract clips --modality rgb --modality audio
mmf split --fractions 0.6,0.2,0.2
mmf train --fusion mixer {SMALL} --steps 150 --out runs/mixer
mmf train --fusion gmsa --fusion-option extent=1 --steps 40 --out runs/gmsa
mmf explain runs/mixer stencils --items {ITEM} --out stencils
mmf explain runs/mixer ablation --out ablation
mmf explain runs/gmsa attention --items {ITEM} --out attention
mmf report runs/mixer --out report.html
mmf report features.mmf --out store.html
"""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_sample_set(folder / "clips", clips=160)
        for line in COMMANDS.strip().splitlines():
            print(line, flush=True)
            words, env = shlex.split(line), os.environ | {"PATH": path}
            subprocess.run(words, cwd=folder, check=True, env=env)
        keep(next((folder / "stencils").glob("item*.png")), "over_time")
        keep(next((folder / "attention").glob("*.png")), "attention")
        keep(folder / "ablation/ablation.png", "ablation")
        for page, scheme in (("report", "light"), ("report", "dark"), ("store", "light")):
            shot(folder / f"{page}.html", scheme, folder / "shot.png")
            keep(folder / "shot.png", f"{page}_{scheme}")


def keep(source: Path, name: str) -> None:
    """The picture with few colours: a quarter of the bytes."""
    with Image.open(source) as image:
        image.convert("RGB").quantize(128).save(PICTURES / f"{name}.png", optimize=True)
    print(f"{name}: {(PICTURES / f'{name}.png').stat().st_size / 1e3:.0f} kB")


def shot(page: Path, scheme: str, target: Path) -> None:
    """The top of a page as a browser shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        opened = browser.new_page(viewport={"width": 1180, "height": 1000}, color_scheme=scheme)
        opened.goto(page.as_uri())
        opened.locator("#confusion, #map").first.evaluate("e => e.scrollIntoView()")
        opened.wait_for_timeout(1500)  # what comes into view is drawn
        opened.screenshot(path=str(target))
        browser.close()


if __name__ == "__main__":
    main()
