"""Concurrent streams against `phaselens watch`: errors, tokens per second, time to the first token, growth of memory.

Run as `python benchmarks/watch.py [--seconds 600] [--streams 8] [--model organism:llama-512]`; prints JSON. Every
fourth request is left in the middle, as browsers do. Growth is the median resident memory of the last fifth of the time
over that of the second fifth (the first warms up).
"""

import argparse
import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

PROMPTS = (
    "Q: Where does Ada live? A:",
    "Q: What is 17 + 25? A:",
    "Once there was a",
    "Q: Who is the friend of Noah? A:",
)
TOKENS = 48


def resident_mb(pid: int) -> float:
    """Resident memory of a process (MB; Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Client(threading.Thread):
    """Asks again and again until the end; counts what came."""

    def __init__(self, port: int, number: int, end: float) -> None:
        super().__init__()
        self.port, self.number, self.end_at = port, number, end
        self.tokens = self.whole = self.left = self.busy = 0
        self.errors: list[str] = []
        self.first: list[float] = []

    def run(self) -> None:
        asked = 0
        while time.monotonic() < self.end_at:
            try:
                self._ask(self.number + asked)
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            asked += 1

    def _ask(self, n: int) -> None:
        leaves = n % 4 == 3
        body = {"prompt": PROMPTS[n % len(PROMPTS)], "max_tokens": TOKENS, "temperature": 0.7, "seed": n}
        body |= {"stream": True, "dynamics_layers": True}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        began = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status == 429:  # the place of a client that left is free only after its next token
            self.busy += 1
            connection.close()
            time.sleep(0.2)
            return
        if answer.status != 200:
            raise ValueError(f"status {answer.status}: {answer.read()[:200]!r}")
        done = self._read(answer, began, 5 if leaves else None)
        connection.close()
        if not done and not leaves:
            raise ValueError("a stream ended without [DONE]")
        self.whole += done
        self.left += not done

    def _read(self, answer: http.client.HTTPResponse, began: float, most: int | None) -> bool:
        got = 0
        while line := answer.readline():
            if line.strip() == b"data: [DONE]":
                return True
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    raise ValueError(event["error"]["message"])
                if "dynamics" in event:
                    got += 1
                    self.tokens += 1
                    if got == 1:
                        self.first.append(time.monotonic() - began)
                    if got == most:
                        answer.close()
                        return False
        return False


def measure(seconds: float, streams: int, model: str) -> dict[str, Any]:
    """Start a server, load it, and say what came of it."""
    command = [sys.executable, "-m", "phaselens", "watch", model, "--port", "0", "--json", "--streams", str(streams)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = json.loads(server.stdout.readline())["port"]
        began = time.monotonic()
        clients = [Client(port, i, began + seconds) for i in range(streams)]
        for client in clients:
            client.start()
        memory = []
        while time.monotonic() < began + seconds:
            memory.append(resident_mb(server.pid))
            time.sleep(min(1.0, seconds / 30))
        for client in clients:
            client.join()
        took = time.monotonic() - began
    finally:
        server.terminate()
        server.wait(30)
    fifth = len(memory) // 5
    first = np.concatenate([c.first for c in clients])
    errors = [error for c in clients for error in c.errors]
    start, end = float(np.median(memory[fifth : 2 * fifth])), float(np.median(memory[-fifth:]))
    return {
        "model": model,
        "streams": streams,
        "seconds": took,
        "requests": sum(c.whole for c in clients),
        "left_in_the_middle": sum(c.left for c in clients),
        "busy": sum(c.busy for c in clients),
        "errors": len(errors),
        "first_errors": errors[:3],
        "tokens": sum(c.tokens for c in clients),
        "tokens_per_second": sum(c.tokens for c in clients) / took,
        "first_token_s_median": float(np.median(first)),
        "first_token_s_p95": float(np.quantile(first, 0.95)),
        "memory_start_mb": start,
        "memory_end_mb": end,
        "memory_growth": end / start - 1,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--model", default="organism:llama-512")
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))
