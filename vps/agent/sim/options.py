"""Options of the verbs, refused as xl's def_getopt refuses them (xen: tools/xl/xl_utils.c)."""

from __future__ import annotations

import sys

# verb: usage after its name, what it does, its short options (":": takes a value), its long ones
_VERBS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "create": (
        "<ConfigFile> [options] [vars]",
        "Create a domain from config file <filename>",
        "Fnqf:pcdeVAh",
        {"dryrun": "n", "quiet": "q", "defconfig": "f", "vncviewer": "V"},
    ),
    "list": (
        "[options] [Domain]",
        "List information about all/some domains",
        "lvhZcn",
        {"long": "l", "verbose": "v", "context": "Z", "cpupool": "c", "numa": "n"},
    ),
    "vm-list": ("", "List guest domains, excluding dom0, stubdoms, etc.", "h", {}),
    "destroy": ("[options] <Domain>", "Terminate a domain immediately", "fh", {}),
    "shutdown": (
        "[options] <-a|Domain>",
        "Issue a shutdown signal to a domain",
        "awFh",
        {"all": "a", "wait": "w"},
    ),
    "reboot": (
        "[options] <-a|Domain>",
        "Issue a reboot signal to a domain",
        "awFh",
        {"all": "a", "wait": "w"},
    ),
    "pause": ("<Domain>", "Pause execution of a domain", "h", {}),
    "unpause": ("<Domain>", "Unpause a paused domain", "h", {}),
    "console": ("[options] <Domain>", "Attach to domain's console", "n:t:h", {}),
    "vcpu-list": ("[Domain, ...]", "List the VCPUs for all/some domains", "h", {}),
    "info": (
        "-n, --numa         List host NUMA topology information",
        "Get information about Xen host",
        "nh",
        {"numa": "n"},
    ),
    "domid": ("<DomainName>", "Convert a domain name to domain id", "h", {}),
    "domname": ("<DomainId>", "Convert a domain id to domain name", "h", {}),
    "dmesg": ("[-c]", "Read and/or clear dmesg buffer", "ch", {"clear": "c"}),
    "uptime": ("[-s] [Domain]", "Print uptime for all/some domains", "sh", {}),
    "xenstore-read": ("<Path>", "Read a key that a guest wrote (a program of its own on Xen)", "h", {}),
    "sim-reset": ("", "End all simulated domains, as if dom0 had been rebooted", "h", {}),
}


class Usage(Exception):
    """The verb is not used as it should be: `text` for stderr, the verb's usage on stdout, an exit status."""

    def __init__(self, verb: str, status: int, text: str = "", usage: bool = True) -> None:
        super().__init__(text)
        self.verb, self.status, self.text, self.usage = verb, status, text, usage

    def show(self) -> int:
        if self.text:
            print(self.text, file=sys.stderr, flush=True)
        if self.usage:
            print(self.of(self.verb))
        return self.status

    @staticmethod
    def of(verb: str) -> str:
        return f"Usage: xl [-vtT] {verb} {_VERBS[verb][0]}\n\n{_VERBS[verb][1]}.\n"

    @staticmethod
    def summary(verb: str) -> str:
        return _VERBS[verb][1]


def options(verb: str, arguments: list[str], required: int = 0) -> tuple[dict[str, str], list[str]]:
    """Split arguments as getopt_long does: options anywhere, `--` ends them. Raises Usage."""
    _, _, short, long = _VERBS[verb]
    found: dict[str, str] = {}
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += queue
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            letter = "h" if name == "help" else next((long[key] for key in long if key.startswith(name)), "")
            if not letter:
                raise Usage(verb, 2, "option `\0' not supported.", usage=False)
            takes = f"{letter}:" in short
            found[letter] = value if equals or not takes else queue.pop(0) if queue else ""
            continue
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == ":" or letter not in short or (f"{letter}:" in short and not letters and not queue):
                raise Usage(verb, 2, f"option `{letter}' not supported.", usage=False)
            if f"{letter}:" in short:
                found[letter], letters = letters or queue.pop(0), ""
            else:
                found[letter] = ""
    if "h" in found:
        raise Usage(verb, 0)
    if len(rest) < required:
        plural = "s" if required > 1 else ""
        raise Usage(verb, 2, f"'xl {verb}' requires at least {required} argument{plural}.\n")
    return found, rest
