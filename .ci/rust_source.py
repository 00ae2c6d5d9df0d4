"""Enough of Rust's syntax for the checks in this folder: text without comments and strings, and where functions and fields
lie. What is behind `#[cfg(test)]` is blanked out: no user's build contains it.

The invariant: line numbers stay, so a finding can name its line. It reads no macro's expansion.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ["crdts/base", "crdts", "sync", "."]

BLANKED = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<h>\#*)".*?"(?P=h)|b?c?"(?:\\.|[^"\\])*"|b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\\n])'""",
    re.S,
)
OPEN, CLOSE = "([{", ")]}"


def files():
    """The libraries' sources: (crate, path). Files of unit tests are none."""
    for library in LIBRARIES:
        for path in sorted((ROOT / library / "src").rglob("*.rs")):
            if path.stem != "tests" and "tests" not in path.parts:
                yield library, path


def spaces(text):
    return re.sub(r"[^\n]", " ", text)


def blank(text):
    """The text with comments, strings, characters and test code replaced by spaces."""
    text = BLANKED.sub(lambda found: spaces(found.group()), text)
    while found := re.search(r"#\[cfg\(test\)\]", text):
        end = item_end(text, found.end())
        text = text[: found.start()] + spaces(text[found.start() : end]) + text[end:]
    return text


def matching(text, at):
    """Where the bracket that opens at `at` is closed."""
    depth = 0
    for place in range(at, len(text)):
        if text[place] in OPEN:
            depth += 1
        elif text[place] in CLOSE:
            depth -= 1
            if depth == 0:
                return place
    return len(text) - 1


def item_end(text, at):
    """Where an item ends: after its body, or after its semicolon."""
    while at < len(text):
        if text[at] == "{":
            return matching(text, at) + 1
        if text[at] == ";":
            return at + 1
        at = matching(text, at) + 1 if text[at] in "([" else at + 1
    return at


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def without_generics(text):
    text = text.replace("->", "  ")
    while (shorter := re.sub(r"<[^<>]*>", "", text)) != text:
        text = shorter
    return text


def impls(text):
    """(start, end, type) of each `impl` and `trait` block."""
    for found in re.finditer(r"(?:^|[;{}\]])\s*((?:pub(?:\([^)]*\))?\s+)?(?:unsafe\s+)?(?:impl|trait)\b)", text):
        start = text.find("{", found.end())
        if start < 0:
            continue
        head = without_generics(text[found.end() : start]).split(" where ")[0]
        head = head.split(" for ")[-1].split(":")[0] if " for " not in head else head.split(" for ")[-1]
        names = re.findall(r"\w+", head.split(" where")[0])
        if names:
            yield start, matching(text, start), names[-1]


def functions(text):
    """(type or None, name, place, body) of each function that has a body."""
    blocks = list(impls(text))
    for found in re.finditer(r"\bfn\s+(\w+)", text):
        end = item_end(text, found.end())
        if text[end - 1] != "}":
            continue
        head = found.end()
        while text[head] != "{":
            head = matching(text, head) + 1 if text[head] in "([" else head + 1
        around = [(stop - start, name) for start, stop, name in blocks if start < found.start() < stop]
        yield (min(around)[1] if around else None), found.group(1), found.start(), text[head:end]


def parts(body):
    """The parts of a list between commas."""
    body = re.sub(r"->|=>", "  ", body)
    depth, part, found = 0, "", []
    for sign in body:
        depth += (sign in "([{<") - (sign in ")]}>")
        if sign == "," and depth == 0:
            found.append(part)
            part = ""
        else:
            part += sign
    return [part for part in [*found, part] if part.strip()]
