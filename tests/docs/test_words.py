"""The words of the project: one for each concept, plain English, and docstrings that begin with a verb."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

#: What nobody should read -> what to write instead. Patterns are searched in docs, comments, docstrings and texts.
BETTER = {
    r"\bsigns\b": "characters",
    r"\bunder way\b": "in flight; in progress",
    r"\b(let|lets|letting) go\b": "release; drop; expire",
    r"\bof its own accord\b": "by default; by itself",
    r"\bplaces? for (a )?files?\b": "permit",
    r"\blog events?\b": "log message; an event is a line of the CDN's log that counts",
    r"\bgiven up\b": "dropped (a request); abandoned",
    r"\bfor good\b": "permanently",
    r"\bhow (complete|far) time is\b": "data completeness",
    r"\btime (stands still|no longer waits|waits for)\b": "the watermark",
    r"\bconfiguration in force\b": "settings",
    r"\bsee that the\b": "make sure that the; check that the",
    r"\bthe other side\b": "the server; the receiver",
    r"\bNobody yet\b": "No data yet",
    r"\bthe last tick that is written\b": "the last sample",
    r"\bthe voices?\b": "the log",
    r"\bsee at the CDN\b": "check in the CDN77 panel",
    r"\bno restart mends\b": "restarting does not help",
    r"\bstands by any more\b": "stands by",
    r"\blines (are|is) refused\b": "rejected; refused is the receiver's word",
    r"\bwho stops it\b": "the supervisor",
    r"\bviewers that came\b": "new viewers",
    r"\bspeak TLS as\b": "answer with TLS",
    r"\bwas \S+ meant\b": "did you mean ...?",
}
#: First words that describe where the reader wants to know what a function does.
RIDDLES = {"What", "Whether", "How", "Where", "Until", "Who", "Whose", "When", "Why", "Which"}
#: First words of functions' docstrings: imperative verbs. A new verb is added here, another word is not.
_VERBS = """
    Abandon Accept Acknowledge Add Admit Adopt Advance Answer Append Apply Ask Assert Attach
    Begin Bind Bring Build
    Call Cancel Check Choose Clean Clear Close Collect Combine Commit Compare Compress Connect Continue Convert Copy
    Count Create Cut
    Declare Decode Delete Describe Detect Disable Discard Do Download Draw Drive Drop
    Emit Empty Enable Encode End Ensure Enter Estimate Evict Exit Expire Export Extend
    Fetch Fill Find Finish Flush Fold Forget Format Free
    Generate Give Group Grow Guess
    Hash Hide Hold
    Import Include Increase Inflate Inform Insert Install Iterate
    Join
    Keep
    Lease Leave Let Limit List Listen Load Locate Lock Log Look Lower
    Make Map Mark Mask Match Measure Merge Move
    Note Number
    Observe Open Order
    Pack Pad Parse Pass Pause Peek Pick Plan Poll Prepare Print Prune Push Put
    Queue Quote
    Raise Rank Read Rebuild Receive Record Reduce Refresh Refuse Register Reject Release Remember Remove Rename Renew
    Repeat Replace Report Request Reset Resolve Restore Retry Return Reveal Rewrite Round Run
    Sample Save Say Scan Search Select Send Serve Set Settle Shorten Show Shrink Shuffle Skip Sleep Sort Split
    Spread Start Step Stop Store Stream Subtract Suggest Sum Swap Sync
    Take Tell Test Throw Time Translate Trim Truncate Try Turn
    Undo Unlock Unpack Update Upload Use
    Validate Verify Visit
    Wait Walk Warn Watch Weigh Widen Work Wrap Write
    Yield
"""
_GENERATED = ("_pb2.py", "_pb2.pyi")


def files(*patterns: str) -> list[Path]:
    """The project's own files of these patterns, without what is generated."""
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return sorted(path for path in found if not path.name.endswith(_GENERATED) and path != Path(__file__))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The whole of a page, or each comment, docstring and other text of a module, with the number of its first line."""
    whole = path.read_text("utf-8")
    if path.suffix != ".py":
        yield 1, whole
        return
    for token in tokenize.generate_tokens(io.StringIO(whole).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING}:
            yield token.start[0], token.string


def bad_words(path: Path) -> Iterator[str]:
    """Each word of the list that stands in the file, and what to write instead; a line may break within it."""
    for first, text in texts(path):
        for pattern, better in BETTER.items():
            for found in re.finditer(pattern.replace(" ", r"\s+"), text, re.IGNORECASE):
                number = first + text.count("\n", 0, found.start())
                yield f"{path.relative_to(ROOT)}:{number}: `{' '.join(found[0].split())}`; better: {better}"


def bad_docstrings(path: Path) -> Iterator[str]:
    """Each docstring that does not begin as it should. Properties and classes are things, and described as such."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            continue
        first = re.match(r"[A-Za-z]+", ast.get_docstring(node) or "")
        if first is None:
            continue
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: `{first[0]}`"
        if first[0] in RIDDLES:
            yield f"{where} begins a docstring; say what it does or is"
        elif _is_function(node) and first[0] not in _VERBS.split():
            yield f"{where} begins a function's docstring; begin with an imperative verb"


def _is_function(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return not any(isinstance(mark, ast.Name) and mark.id.endswith("property") for mark in node.decorator_list)


PAGES = files(
    *(
        "README.md",
        "CHANGELOG.md",
        "docs/**/*.md",
        "src/**/*.html",
        "src/**/*.js",
        "compose.yaml",
        "Dockerfile",
        "Makefile",
    ),
    *("deploy/**/*.yml", "deploy/**/*.yaml", "deploy/**/*.json", "deploy/**/*.service"),
)
MODULES = files("src/**/*.py", "tools/*.py", "bench/*.py", "deploy/**/*.py")


def faults() -> dict[str, list[str]]:
    """Everything that is wrong, by file."""
    found = {}
    for path in {*PAGES, *MODULES}:
        wrong = [*bad_words(path), *(bad_docstrings(path) if path in MODULES else ())]
        found[str(path.relative_to(ROOT))] = wrong
    return found


def test_words_are_those_of_the_list() -> None:
    """No page and no module has a word that has a better one, or a docstring that does not say what it is or does."""
    wrong = faults()
    assert len(wrong) > 100
    found = [fault for _, each in sorted(wrong.items()) for fault in each]
    assert not found, "\n" + "\n".join(found)


def test_a_bad_word_and_a_bad_docstring_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks see comments, texts, docstrings and broken lines, and accept properties and correct docstrings."""
    monkeypatch.setattr("tests.docs.test_words.ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(
        '"""How it is."""\n# ten signs\nX = "under way"\n\ndef a():\n    """The name."""\n\n'
        'def b():\n    """Return it."""\n@property\ndef c(self):\n    """The name."""\n'
    )
    assert [fault.split(":")[1] for fault in (*bad_words(path), *bad_docstrings(path))] == ["2", "3", "1", "5"]
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nIt is under\nway.\n")
    assert [fault.split(":")[1] for fault in bad_words(page)] == ["3"]
