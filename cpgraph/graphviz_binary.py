"""Finding a `dot` and having it lay a picture out, on a machine without Graphviz too.

A ladder; the first rung that holds is taken, and one that breaks is told to the log: what the environment variable
`CPGRAPH_DOT` names, the program that comes with the package graphviz-pure, a `dot` on PATH. The program is run
directly, without a shell and without files: the source goes in, the picture comes out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from cpgraph.errors import CpgraphError

__all__ = ["bundled", "lay_out", "rungs"]

VARIABLE: Final = "CPGRAPH_DOT"
TIMEOUT: Final = 60.0
FINEST: Final = 288.0  # dots per inch of a PDF made of pixels,
PIXELS: Final = 40e6  # and how many there may be at most
MEND: Final = (
    "pip install graphviz-pure, or install Graphviz so that `dot` is on PATH, or name a `dot` in CPGRAPH_DOT; "
    "the suffixes .dot and .mmd need none of them."
)


def lay_out(source: str, format: str) -> bytes:
    """Lay DOT text out as "svg", "png" or "pdf"; raises `CpgraphError` if no program can."""
    broken: dict[str, str] = {}
    ladder = list(rungs())
    for make in MAKERS[format]:
        for said, program in ladder:
            try:
                return make(program, source)
            except _Unknown as error:
                broken.setdefault(said, str(error))
            except _Broken as error:
                broken[said] = str(error)
                _log(said, str(error))
    headline = "no Graphviz here lays the picture out" if broken else "there is no Graphviz here to lay the picture out"
    raise CpgraphError(headline, broken, MEND)


def rungs() -> Iterator[tuple[str, str]]:
    """Give what may be tried, in order: what it is called, and the program."""
    named = os.environ.get(VARIABLE)
    if named:
        yield f"{VARIABLE}={named}", named
    here = bundled()
    if here is not None:
        yield "graphviz-pure", here
    import shutil

    found = shutil.which("dot")
    if found is not None:
        yield "dot on PATH", found


def bundled() -> str | None:
    """Find the program that comes with graphviz-pure, also where the environment's scripts are not on PATH."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        listed = files("graphviz-pure") or ()
    except PackageNotFoundError:
        return None
    for file in listed:
        if file.name in ("graphviz-pure", "graphviz-pure.exe"):
            path = os.path.abspath(str(file.locate()))
            return path if os.path.isfile(path) else None
    return None


class _Broken(Exception):
    """A rung that does not hold."""


class _Unknown(_Broken):
    """A rung that does not know the format; that is no news."""


def _run(format: str, program: str, source: str, options: Sequence[str] = ()) -> bytes:
    import subprocess

    try:
        done = subprocess.run(
            [program, "-Kdot", f"-T{format}", *options], input=source.encode(), capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise _Broken(f"not ready after {TIMEOUT:g} s") from None
    except OSError as error:
        raise _Broken(error.strerror or str(error)) from None
    if done.returncode or not done.stdout:
        said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if not line.startswith("Warning")]
        text = "; ".join(said[:2]) or f"exit status {done.returncode}, nothing said"
        raise _Unknown(text) if "not recognized" in text else _Broken(text)
    return done.stdout


def _pdf_of_pixels(program: str, source: str) -> bytes:
    """Wrap an image up as PDF: graphviz-pure draws no PDF."""
    _, _, across, down, *_ = _run("plain", program, source).split(maxsplit=4)
    dpi = min(FINEST, (PIXELS / (float(across) * float(down))) ** 0.5)
    return _wrapped(_run("jpeg", program, source, [f"-Gdpi={dpi:.0f}"]), dpi)


MAKERS: Final = {
    "svg": (partial(_run, "svg"),),
    "png": (partial(_run, "png", options=("-Gdpi=144",)),),  # sharp on the screens of today
    "pdf": (partial(_run, "pdf"), _pdf_of_pixels),
}


def _wrapped(image: bytes, dpi: float) -> bytes:
    """Make a PDF of one page that shows a JPEG image."""
    width, height = _size(image)
    across, down = width * 72 / dpi, height * 72 / dpi
    content = f"q {across:.2f} 0 0 {down:.2f} 0 0 cm /Im Do Q".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {across:.2f} {down:.2f}] /Contents 4 0 R "
        "/Resources << /XObject << /Im 5 0 R >> >> >>".encode(),
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB /BitsPerComponent 8 "
        b"/Filter /DCTDecode /Length %d >>\nstream\n%b\nendstream" % (width, height, len(image), image),
    ]
    made = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    made += b"".join(b"%010d 00000 n \n" % place for place in places)
    made += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(made)


def _size(image: bytes) -> tuple[int, int]:
    """Read width and height from a JPEG's frame header: the first segment of kind C0 to C2."""
    at = 2
    while at + 9 <= len(image):
        kind, length = image[at + 1], int.from_bytes(image[at + 2 : at + 4])
        if kind in (0xC0, 0xC1, 0xC2):
            return int.from_bytes(image[at + 7 : at + 9]), int.from_bytes(image[at + 5 : at + 7])
        at += 2 + length
    raise _Broken("what it gave is no JPEG image")


def _log(rung: str, said: str) -> None:
    import logging

    logging.getLogger("cpgraph").warning("%s could not lay the picture out: %s", rung, said)
