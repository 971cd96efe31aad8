"""The boards in this directory: building them, and QEMU's command lines for those that it knows. `check` and `run` use it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests"))
import programs

TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
BUILT = TARGET / "firmware"
# What firmware is told that the broker's address is: QEMU carries what goes there to the machine that it runs on.
BROKER = "10.0.2.100:4222"


def boards(names=()):
    """Directories with the settings in their `board` file: lines of a name and what follows it."""
    for directory in sorted(path.parent for path in HERE.glob("*/board")):
        if not names or directory.name in names:
            lines = [line.split(maxsplit=1) for line in (directory / "board").read_text().splitlines()]
            yield directory, dict(line for line in lines if line and line[0] != "#")


def build(directory, board, before=()):
    """Builds one, and gives its file; None if there is no such target here. `before` the command: `nice`, say."""
    channel = re.search(r'channel = "(.*)"', (ROOT / "rust-toolchain.toml").read_text())[1]
    target = board["target"]
    installed = lambda: subprocess.run(
        ["rustup", "target", "list", "--installed", "--toolchain", channel], capture_output=True, text=True
    ).stdout.split()
    if shutil.which("rustup") and target not in installed():
        subprocess.run(["rustup", "target", "add", "--toolchain", channel, target], capture_output=True)
    if not shutil.which("rustup") or target not in installed():
        return None
    # What a debugger reads doesn't go to the board, and takes a fifth of the time.
    environment = dict(os.environ, CARGO_TARGET_DIR=str(BUILT), CARGO_PROFILE_RELEASE_DEBUG="none")
    if board["line"] == "tls":
        environment["CA"] = str(certificates() / "ca.der")
    command = [*before, "cargo", "build", "--quiet", "--release", "--locked", "--target", target]
    subprocess.run(command, cwd=directory, env=environment, check=True)
    return BUILT / target / "release" / directory.name


def certificates(name="gateway"):
    """A directory with a certificate authority, and what it has vouched for: server.pem and server.key of `gateway.local`."""
    directory = BUILT / "certificates" / name
    if not (directory / "server.pem").exists():
        directory.mkdir(parents=True, exist_ok=True)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        names = directory / "names"
        names.write_text("subjectAltName = DNS:gateway.local, IP:127.0.0.1\n")
        for words in (
            ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "3650", "-subj", "/CN=firmware-examples"],
            ["x509", "-in", "ca.pem", "-outform", "der", "-out", "ca.der"],
            ["req", *key, "-keyout", "server.key", "-out", "request.pem", "-subj", "/CN=gateway.local"],
            ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
             "-days", "365", "-extfile", "names", "-out", "server.pem"],
        ):  # fmt: skip
            subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)
    return directory


def qemu(board):
    """Sees that the emulator is there, and installs it if need be."""
    command = board["qemu"].split()[0]
    return programs.find(command, {"qemu-system-riscv32": "qemu-system-misc"}.get(command))


def command(elf, board, broker):
    """What plays the board. A serial port is a pseudo-terminal, whose name QEMU says; the network leads to `broker` alone."""
    words = [*board["qemu"].split(), "-display", "none", "-monitor", "none", "-kernel", str(elf)]
    if board["line"] == "serial":
        words += ["-chardev", "pty,id=line", "-serial", "chardev:line"]
    else:
        host, port = broker.rsplit(":", 1)
        model = board["network"]
        words += ["-serial", "none", "-nic", f"user,model={model},restrict=on,guestfwd=tcp:{BROKER}-cmd:nc {host} {port}"]
    semihosting = "enable=on,target=native"
    if board.get("log") == "defmt":
        words += ["-chardev", "stdio,id=log,signal=off"]
        semihosting += ",chardev=log"
    return [*words, "-semihosting-config", semihosting]


PTY = re.compile(r"char device redirected to (\S+) \(label line\)")


def sizes(data):
    """Bytes of flash and of RAM, stack not counted: what an ELF of 32 bits, little end first, has in its sections."""
    flash = ram = 0
    for name, kind, flags, _, _, length in sections(data):
        if flags & 2 and name != b".stack":  # takes memory
            if kind != 8:  # has bytes in the file
                flash += length
            if flags & 1:  # writable
                ram += length
    return flash, ram


def sections(data):
    """Name, kind, flags, address, place and length of each."""
    number = lambda at, size: int.from_bytes(data[at : at + size], "little")
    start, size, count = number(32, 4), number(46, 2), number(48, 2)
    heads = [start + size * i for i in range(count)]
    names = number(heads[number(50, 2)] + 16, 4)
    for head in heads:
        name = data[names + number(head, 4) :].split(b"\0", 1)[0]
        yield name, *(number(head + at, 4) for at in (4, 8, 12, 16, 20))


class Defmt:
    """Reads defmt's log of firmware whose lines are texts without values: `defmt-print -e ELF` reads them all."""

    def __init__(self, data):
        found = {name: (place, length) for name, _, _, _, place, length in sections(data)}
        (symbols, size), (names, _) = found[b".symtab"], found[b".strtab"]
        number = lambda at: int.from_bytes(data[at : at + 4], "little")
        self.texts, self.rest = {}, b""
        for at in range(symbols, symbols + size, 16):
            name = data[names + number(at) :].split(b"\0", 1)[0].decode(errors="replace")
            if '"tag":"defmt_' in name:
                level = re.search(r'"tag":"defmt_(\w+)"', name)[1]
                self.texts[number(at + 4) & 0xFFFF] = f"{level.upper()} " + re.search(r'"data":"(.*?)"[,}]', name)[1]

    def lines(self, bytes_):
        *frames, self.rest = (self.rest + bytes_).split(b"\0")
        for frame in frames:
            if frame:
                yield self.texts.get(int.from_bytes(unpacked(frame)[:2], "little"), "?")


def unpacked(frame):
    """One frame without its reverse COBS, in which zeros are left out. Source: the rzcobs crate."""
    out = bytearray()
    data = bytearray(frame)
    while data:
        byte = data.pop()
        if byte == 0:
            raise ValueError("a zero within a frame")
        if byte < 0x80:
            for bit in range(7):
                out.append(0 if byte >> (6 - bit) & 1 else data.pop() if data else 0)
        elif byte < 0xFF:
            out.append(0)
            for _ in range((byte & 0x7F) + 7):
                out.append(data.pop() if data else 0)
        else:
            for _ in range(134):
                out.append(data.pop() if data else 0)
    return bytes(reversed(out))


def fail(why):
    sys.exit(f"firmware-examples: {why}")
