"""What `requests` and `deliveries` share: a server with streams, and how answers of two are compared."""

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Members of answers that are never the same.
TIMES = ("first_ts", "last_ts", "last_active", "time", "pinned_ts", "pause_remaining")
OWN = ("ts", "created", "id", "timestamp", "Nats-Stream-Identity", "Nats-Time-Stamp")
NO_TIME = "0001-01-01T00:00:00Z"


class Server:
    """A server that has a directory for itself, and a port that it chose."""

    def __init__(self, binary: Path):
        self.store = tempfile.TemporaryDirectory()
        where = Path(self.store.name)
        (where / "conf").write_text(f'server_name: x\nhost: 127.0.0.1\nport: -1\nports_file_dir: "{where}"\njetstream {{ store_dir: "{where}/js" }}\n')
        self.process = subprocess.Popen([binary, "-c", where / "conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not (files := [file for file in where.glob("*.ports") if file.stat().st_size > 0]):
            if time.monotonic() > deadline:
                sys.exit(f"{binary} does not start")
            time.sleep(0.05)
        self.url = json.loads(files[0].read_text())["nats"][0]
        self.host, port = self.url.removeprefix("nats://").split(":")
        self.port = int(port)

    def close(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.store.cleanup()


def mask(answer):
    """Without what is never the same."""
    if isinstance(answer, list):
        return [mask(value) for value in answer]
    if isinstance(answer, dict):
        answer = {name: mask(value) for name, value in answer.items() if name not in OWN}
        if answer.get("err_code") == 10025:
            answer["description"] = "JSON"
        if "name" in answer and "lag" in answer:
            # Whether a copy has begun is chance.
            answer = {"name": answer["name"]}
        return answer | {name: "TIME" for name in TIMES if answer.get(name, NO_TIME) != NO_TIME}
    if isinstance(answer, str):
        answer = re.sub(r"(\$JS\.ACK\.\S+?\.\d+\.\d+\.\d+)\.\d+\.(\d+)", r"\1.TIME.\2", answer)
        return re.sub(r"(?!0001|2020|2099)\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", answer)
    return answer


def differences(one, other, path="") -> list:
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted(set(one) | set(other), key=str)
        return [line for name in names for line in differences(one.get(name), other.get(name), f"{path}.{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [line for at, pair in enumerate(zip(one, other)) for line in differences(*pair, f"{path}[{at}]")]
    return [] if one == other else [f"{path}: {json.dumps(one)[:250]} | {json.dumps(other)[:250]}"]
